// What somebody writes who has read the README and nothing else, around a socket of their own making.
// Everything that is heard or answered is printed, one line of JSON each; the test reads it.

export const url = process.env.DAEMON_URL;
export const token = process.env.DAEMON_TOKEN;
const sessionId = process.env.SESSION;
const projectId = process.env.PROJECT;

const print = (event, data) => console.log(JSON.stringify({ event, data }));

export async function visit(socket) {
  const heard = (event) => new Promise((resolve) => socket.once(event, resolve));
  const ask = async (event, payload) =>
    print(`ack ${event}`, await socket.timeout(5000).emitWithAck(event, payload));

  socket.onAny((event, data) => print(event, data));
  socket.io.on("open", () => {
    print("open", { transport: socket.io.engine.transport.name });
    socket.io.engine.once("upgrade", (transport) => print("upgrade", { transport: transport.name }));
  });
  socket.on("connect_error", ({ message, data }) => {
    print("connect_error", { message, data });
    socket.disconnect();
  });
  socket.on("disconnect", (reason) => print("disconnect", { reason }));

  await heard("connected");

  const session = heard("session_joined");
  socket.emit("join_session", sessionId);
  await session;

  const project = heard("project_joined");
  socket.emit("join_project", projectId);
  await project;

  await ask("chat_message", { content: "hello from node", sessionId, metadata: { mood: "curious" } });
  socket.emit("typing", { sessionId, isTyping: true });
  const notified = heard("tts_notification");
  await ask("tts_notification", { message: "a newcomer is here", type: "success" });
  await notified;
  await ask("system_status", {});

  // What goes wrong on a first day: with a callback, and without.
  await ask("join_session", "");
  await ask("join_project", {});
  await ask("join_project", "nowhere");
  await ask("chat_message", { sessionId });
  await ask("chat_message", { content: 7, sessionId });
  await ask("terminal_command", { command: "", sessionId });
  await ask("file_update", { filePath: "a.txt", projectId, action: "shred" });
  await ask("tts_notification", { message: "x".repeat(501), type: "info" });
  await ask("fly", {});
  const refused = heard("error");
  socket.emit("chat_message", "just text");
  await refused;

  const dismissed = new Promise((resolve) =>
    socket.on("chat_message", ({ content }) => content === "goodbye" && resolve()),
  );
  print("waiting", {});
  await dismissed;
  socket.disconnect();
}
