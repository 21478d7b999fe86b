// express + ajv + pg, one process: what one would write by hand for one sender.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import Ajv from 'ajv/dist/2020.js';
import express from 'express';
import pg from 'pg';
import { v7 as uuid } from 'uuid';

const [port, databaseUrl, secret] = process.argv.slice(2);
const beside = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');

const satisfiesSchema = new Ajv({ allowUnionTypes: true }).compile(JSON.parse(beside('../packs/github/schemas/push.json')));
const statements = { store: beside('../store.sql'), repeated: beside('../repeated.sql') };
const pool = new pg.Pool({ connectionString: databaseUrl, min: 16, max: 16 });

const app = express();
app.disable('x-powered-by');
app.disable('etag');
app.get('/readyz', async (_request, response) => {
  await pool.query('SELECT 1');
  response.send('ready');
});
app.post('/hook', express.raw({ type: () => true, limit: '1mb' }), receive);
const server = app.listen(Number(port), '127.0.0.1');

process.on('SIGTERM', () => {
  server.close(() => pool.end());
  server.closeIdleConnections();
});

async function receive(request, response) {
  const started = process.hrtime.bigint();
  const receivedAt = new Date();

  if (!isAuthentic(request.get('X-Hub-Signature-256'), request.body)) return response.sendStatus(401);
  let payload;
  try {
    payload = JSON.parse(request.body);
  } catch {
    return response.sendStatus(400);
  }
  if (request.get('X-GitHub-Event') !== 'push') return response.json({ data: { ignored: true } });
  if (!satisfiesSchema(payload)) return response.sendStatus(422);
  const event = mapped(payload, request.get('X-GitHub-Delivery'));
  const eventId = await store(request, receivedAt, started, event);

  response.json({
    data: {
      event_id: eventId,
      trigger_ref: 'github.push',
      received_at: receivedAt.toISOString(),
      message: 'Webhook received successfully',
    },
  });
}

/** Compares in constant time, over the bytes as they came. */
function isAuthentic(signature, body) {
  const claimed = Buffer.from(signature ?? '');
  const right = Buffer.from(`sha256=${createHmac('sha256', secret).update(body).digest('hex')}`);
  return claimed.length === right.length && timingSafeEqual(claimed, right);
}

function mapped(payload, delivery) {
  const head = payload.head_commit;
  return {
    source: 'github',
    delivery,
    repository: payload.repository.full_name,
    private: payload.repository.private,
    branch: payload.ref,
    before: payload.before,
    after: payload.after,
    forced: payload.forced,
    compare_url: payload.compare,
    pusher: payload.pusher.name,
    head: { id: head?.id, message: head?.message, author: head?.author.name ?? 'unknown' },
    messages: payload.commits.map((commit) => commit.message),
  };
}

async function store(request, receivedAt, started, event) {
  const delivery = request.get('X-GitHub-Delivery');
  const userAgent = request.get('User-Agent');
  const sourceIp = request.socket.remoteAddress;
  const metadata = {
    source: 'webhook',
    request_id: uuid(),
    received_at: receivedAt.toISOString(),
    source_ip: sourceIp,
    user_agent: userAgent,
    headers: {
      'content-type': request.get('Content-Type'),
      'user-agent': userAgent,
      'x-github-delivery': delivery,
      'x-github-event': request.get('X-GitHub-Event'),
    },
  };
  const logged = [
    delivery,
    receivedAt,
    sourceIp,
    userAgent,
    request.body.length,
    Number((process.hrtime.bigint() - started) / 1000n),
  ];
  const stored = await run('store', [...logged, uuid(), JSON.stringify(event), JSON.stringify(metadata)]);
  return stored ?? (await run('repeated', logged));
}

/** The event id that a prepared statement gives back. */
async function run(name, values) {
  const { rows } = await pool.query({ name, text: statements[name], values });
  return rows[0]?.event_id;
}
