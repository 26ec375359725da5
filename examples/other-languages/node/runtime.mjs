// A Planter runtime in Node: takes phases by their labels, calls a function, reports what came of it.
//
//     npm install && node runtime.mjs [nats://127.0.0.1:4222]
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

// A phase is done by the handler with most labels, all of which are in the phase's selector.
const handlers = [
  {
    labels: { phase: "greet" },
    call: async ({ name = "world" }, { log }) => {
      log(`greeting ${name}`);
      return { greeting: `Hello, ${name}, from Node ${process.versions.node}` };
    },
  },
  {
    labels: { phase: "nap" },
    call: ({ seconds = 1 }, { signal }) => {
      if (!(seconds >= 0)) throw new TypeError(`seconds is ${JSON.stringify(seconds)}, no number`);
      return sleep(seconds * 1000, undefined, { signal });
    },
  },
];

const servers = process.argv[2] ?? process.env.NATS_URL ?? "nats://127.0.0.1:4222";
const nc = await connect({ servers, maxReconnectAttempts: -1 });
const js = jetstream(nc);
const runtimeId = `node-${hostname()}-${process.pid}`.replace(/[^A-Za-z0-9_-]/g, "-");
const instance = randomUUID(); // another one after a restart: nothing is inherited
const SLOTS = 16;
const LEASE_MS = 15_000;
const running = new Map(); // phase -> { target, abort }
const said = new Map(); // phase -> { target, report }: a target that comes again gets the same answer
let state = "ready";

const keyOf = ({ sessionId, phaseId }) => `${sessionId}/${phaseId}`;
const isSame = (one, other) => one.fence === other.fence && one.dispatchId === other.dispatchId;

function beat() {
  const held = [...running.values()].map(({ target: { sessionId, phaseId, attempt, fence } }) => (
    { sessionId, phaseId, attempt, fence }
  ));
  const about = { slots: SLOTS, handlers: handlers.map(({ labels }) => labels), host: hostname(), pid: process.pid };
  const message = { runtimeId, instance, state, held, leaseMs: LEASE_MS, ...about };
  nc.publish(`plan.runtime.${runtimeId}.heartbeat`, JSON.stringify(message));
}

// Confirmed, and tried until it is: what a phase has done must not be lost on the way.
async function tell(target, verb, fields) {
  const { phaseId, attempt, fence, dispatchId } = target;
  const message = JSON.stringify({ phaseId, attempt, fence, dispatchId, runtimeId, ...fields });
  const msgID = `${runtimeId}.${instance}/${keyOf(target)}/${fence}/${verb}/${fields.status ?? ""}`;
  for (;;) {
    try {
      return await js.publish(`plan.session.${target.sessionId}.${verb}`, message, { msgID });
    } catch (error) {
      console.error(`${verb} of ${keyOf(target)} is not confirmed: ${error.message}`);
      await sleep(1000);
    }
  }
}

function logOf(target) {
  return (text, level = "info") => {
    const { sessionId, phaseId, attempt } = target;
    const line = { level, message: String(text), timestamp: new Date().toISOString(), phaseId, attempt, runtimeId };
    js.publish(`plan.session.${sessionId}.log`, JSON.stringify(line)).catch((error) => console.error(error.message));
  };
}

function handlerFor(labels) {
  const fits = handlers.filter((one) => Object.entries(one.labels).every(([key, value]) => labels[key] === value));
  return fits.sort((a, b) => Object.keys(b.labels).length - Object.keys(a.labels).length)[0];
}

async function offer(target) {
  const key = keyOf(target);
  const known = running.get(key)?.target ?? said.get(key)?.target;
  if (known && known.fence >= target.fence && !isSame(known, target)) {
    return tell(target, "ack", { accepted: false, reason: `stale: fence ${known.fence} is known here` });
  }
  if (known && isSame(known, target)) {
    return running.has(key) ? tell(target, "ack", { accepted: true }) : tell(target, "report", said.get(key).report);
  }
  const handler = handlerFor(target.labels ?? {});
  if (!handler || state !== "ready") {
    return tell(target, "ack", { accepted: false, reason: handler ? state : "no handler for these labels" });
  }
  running.get(key)?.abort.abort(new Error("superseded"));
  const abort = new AbortController();
  running.set(key, { target, abort });
  await tell(target, "report", { status: "running", started: new Date().toISOString() }); // says that it is taken, too
  const timer = target.timeoutMs && setTimeout(() => abort.abort(new Error("timeout")), target.timeoutMs);
  const report = await run(handler, target, abort.signal);
  clearTimeout(timer);
  if (running.get(key)?.target !== target) return undefined; // superseded: nobody wants to know
  said.set(key, { target, report });
  running.delete(key);
  return tell(target, "report", report);
}

async function run(handler, target, signal) {
  const started = new Date().toISOString();
  try {
    const context = { target, signal, log: logOf(target) };
    const result = await handler.call(target.run?.with ?? {}, context);
    return { status: "complete", result, started, finished: new Date().toISOString() };
  } catch (error) {
    const why = signal.aborted ? signal.reason.message : String(error?.message ?? error);
    if (signal.aborted && why !== "timeout") return { status: "cancelled", error: { message: why }, started };
    return { status: "failed", error: { message: why, kind: signal.aborted ? why : "exception" }, started };
  }
}

async function listen(subject, take) {
  for await (const message of nc.subscribe(subject)) {
    try {
      take(message);
    } catch (error) {
      console.error(`${subject}: ${error.message}`); // somebody else's rubbish must not end us
    }
  }
}

listen(`plan.runtime.${runtimeId}.target`, (message) => {
  for (const target of message.json().targets) {
    if (!target.instance || target.instance === instance) offer(target);
  }
});
listen(`plan.runtime.${runtimeId}.control`, (message) => {
  const { command, fence, reason, ...phase } = message.json();
  const one = running.get(keyOf(phase));
  if (command === "drain") drain();
  else if (one && (fence === undefined || fence === one.target.fence)) one.abort.abort(new Error(reason ?? "cancelled"));
});
listen("plan.runtime.discover", beat);

// SIGTERM: take nothing more, finish what runs, say goodbye.
async function drain() {
  state = "draining";
  beat();
  while (running.size) await sleep(50);
  state = "gone";
  beat();
  await nc.drain();
  process.exit(0);
}

process.on("SIGTERM", drain).on("SIGINT", drain);
await nc.flush(); // first listen, then register: targets may come at once
beat();
setInterval(beat, LEASE_MS / 3);
console.error(`${runtimeId} takes phases from ${servers}`);
