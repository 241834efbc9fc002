export * from "./server_backend.js";
