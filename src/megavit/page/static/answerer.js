export * from "./by_server.js";
