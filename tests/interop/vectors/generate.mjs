// Writes data/*.json: see README.md. The clock stands still, so that the senders' verifiers agree with the recorded time.

import { mock } from "node:test";
import { NOW } from "./lib.mjs";

console.debug = console.warn = console.error = () => {}; // the SDKs' own chatter; our failures are thrown
mock.timers.enable({ apis: ["Date"], now: NOW * 1000 });
try {
  for (const group of process.argv[2]?.split(",") ?? ["generic", "body", "timestamped", "url", "members", "keys", "jwt"]) {
    await (await import(`./senders/${group}.mjs`)).all();
  }
} catch (error) {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
}
process.exit(0);
