// One hookpack host on a fresh data folder, asked as its operator would: by URL, by command line, by SQL.

import { execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const HERE = dirname(fileURLToPath(import.meta.url));
export const ROOT = dirname(dirname(HERE));
const HOOKPACK = process.env.HOOKPACK ?? join(ROOT, "target/debug/hookpack");
const START_WAIT_MS = 60_000;
const OUTPUT_BYTES_MAX = 64 << 20;

/** Installs the senders' packages beside this file, as package-lock.json pins them; nothing of them is run. */
export async function install() {
  if (existsSync(join(HERE, "node_modules/.package-lock.json"))) return;
  await run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: HERE });
}

export class Host {
  /** Starts `hookpack serve` with the packs of this repository and these secrets: {GITHUB_WEBHOOK: "…"}. */
  static async start(secrets) {
    const data = mkdtempSync(join(tmpdir(), "hookpack-"));
    const environment = Object.entries(secrets).map(([name, value]) => [`HOOKPACK_SECRET_${name}`, value]);
    const child = spawn(HOOKPACK, ["serve", "--listen", "127.0.0.1:0", "--data-dir", data], {
      cwd: ROOT,
      env: { ...process.env, ...Object.fromEntries(environment) },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const host = new Host(child, data);
    try {
      host.url = await host.address();
      host.token = readFileSync(join(data, "admin-token"), "utf8").trim();
      return host;
    } catch (error) {
      await host.stop();
      throw error;
    }
  }

  constructor(child, data) {
    this.child = child;
    this.data = data;
    this.ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", resolve);
    });
  }

  /** The URL that the host says it listens on. */
  address() {
    let said = "";
    return new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error("the host did not start in time")), START_WAIT_MS).unref();
      this.ended.then(() => reject(new Error(`the host ended:\n${said}`)), reject);
      this.child.stdout.on("data", (chunk) => {
        said += chunk;
        const found = /listens on (http:\S+)/.exec(said);
        if (found) resolve(found[1]);
      });
    });
  }

  /** The webhook URL of a trigger ("triggers", "github.push") or a pack ("packs", "github"). */
  async webhook(kind, ref) {
    const answer = await fetch(`${this.url}/api/v1/${kind}/${ref}/webhooks`, {
      headers: { authorization: `Bearer ${this.token}` },
    });
    const { data } = await answer.json();
    // The host was asked for any free port: only the path of its public URL is right.
    return this.url + new URL(data.webhook_url).pathname;
  }

  /** Every event of a trigger as `hookpack events` gives them, page after page. */
  async events(trigger) {
    const PAGE = 7;
    const events = [];
    let cursor = [];
    do {
      const { stdout } = await run(
        HOOKPACK,
        ["events", "--url", this.url, "--trigger", trigger, "--limit", PAGE, "--output", "json", ...cursor],
        { env: { ...process.env, HOOKPACK_TOKEN: this.token }, maxBuffer: OUTPUT_BYTES_MAX },
      );
      const page = JSON.parse(stdout);
      events.push(...page.data);
      cursor = page.next_cursor ? ["--cursor", page.next_cursor] : null;
    } while (cursor);
    return events;
  }

  /** The rows of a query, each as an object, through psql and the private database's socket. */
  async rows(sql) {
    const { stdout } = await run(
      "psql",
      ["-XAtq", "-h", join(this.data, "postgres"), "-U", "hookpack", "-d", "postgres", "-c", `select to_json(r) from (${sql}) r`],
      { maxBuffer: OUTPUT_BYTES_MAX },
    );
    return stdout.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  async stop() {
    this.child.kill("SIGTERM");
    await this.ended.catch(() => {});
    rmSync(this.data, { recursive: true, force: true });
  }
}

/** Sends a body and gives status and JSON of the answer. */
export async function post(url, headers, body) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
  return { status: answer.status, body: await answer.json(), replayed: answer.headers.get("idempotency-replayed") };
}

/** The body with one byte changed inside a JSON string, so that it is still JSON. */
export function tampered(body) {
  const at = body.lastIndexOf('"') - 1;
  return body.slice(0, at) + (body[at] === "x" ? "y" : "x") + body.slice(at + 1);
}

/** Counts what held and tells what did not. */
export class Tally {
  held = 0;
  missed = 0;

  check(holds, what) {
    if (holds) {
      this.held += 1;
    } else {
      this.missed += 1;
      console.error(`MISS ${what}`);
    }
    return holds;
  }

  /** Prints the total; a miss makes the process fail. */
  end() {
    console.log(`${this.held} checks held, ${this.missed} missed`);
    process.exitCode = this.missed > 0 ? 1 : 0;
  }
}
