// In a React Native app: WebSocket only, as its guides advise, and the token as other servers want it.
import { io } from "socket.io-client";
import { token, url, visit } from "./newcomer.mjs";

await visit(
  io(url, {
    transports: ["websocket"],
    auth: (send) => send(token ? { token: `Bearer ${token}` } : {}),
    reconnectionAttempts: 5,
    forceNew: true,
  }),
);
