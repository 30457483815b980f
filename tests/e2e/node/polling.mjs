// Behind a proxy that knows no WebSocket: long-polling alone, the token in a header.
import { io } from "socket.io-client";
import { token, url, visit } from "./newcomer.mjs";

const extraHeaders = token ? { Authorization: `Bearer ${token}` } : {};
await visit(io(url, { transports: ["polling"], extraHeaders }));
