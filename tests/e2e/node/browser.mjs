// In a web page of http://localhost:3000: the defaults, so long-polling first and then an upgrade.
// (A browser sends Origin by itself.)
import { io } from "socket.io-client";
import { token, url, visit } from "./newcomer.mjs";

await visit(io(url, { auth: { token }, extraHeaders: { Origin: "http://localhost:3000" } }));
