// Outside CI: thousands of requests to `serve` from npm's openai, hundreds at a time, some of them broken, slow or gone before the
// end. Every answer is compared with what `generate` writes; the server's memory is watched; nothing may be left behind.
//
//   npm install openai@6.10.0
//   node tests/tools/load_serve.mjs build/bin model.h5 [requests, 3000] [at a time, 300]
//
// Prints a JSON object; exit status 1 where something was lost, wrong or left, with the first few places.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(process.cwd() + "/");
const { OpenAI } = require("openai");

const [bin, model, requests = "3000", atATime = "300"] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "hone-load-"));

// xorshift: the same requests at every run.
let state = 88172645463325252n;
const below = (n) => {
  state ^= (state << 13n) & 0xffffffffffffffffn;
  state ^= state >> 7n;
  state ^= (state << 17n) & 0xffffffffffffffffn;
  return Number(state % BigInt(n));
};
const pick = (list) => list[below(list.length)];
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// What may be asked for, and what `generate` makes of it.
const words = ["the river", "a small bird", "the old king", "north wind", "stone bridge", "\u00fcber den Fluss", "silver coin", "\n\n"];
const asked = Array.from({ length: 64 }, (_, id) => ({
  id, prompt: Array.from({ length: 1 + below(20) }, () => pick(words)).join(" "), tokens: 1 + below(60), seed: below(1000),
  temperature: pick([0, 0.7, 1]), ...(below(4) === 0 ? { stop: pick([".", "the", "\n"]) } : {}),
}));
const input = join(folder, "in.jsonl"), output = join(folder, "out.jsonl");
writeFileSync(input, asked.map((one) => JSON.stringify(one) + "\n").join(""));
const made = spawnSync(join(bin, "generate"), [model, "--input", input, "--output", output, "--parallel", "16", "-q"], { encoding: "utf8" });
if (made.status !== 0) throw new Error(made.stderr);
const expected = readFileSync(output, "utf8").trim().split("\n").map(JSON.parse).sort((a, b) => a.id - b.id);

const server = spawn(join(bin, "serve"), [model, "--port", "0", "--parallel", "64", "--queue", "100000", "--connections", "512"],
  { stdio: ["ignore", "ignore", "pipe"] });
const port = await new Promise((found, failed) => {
  let log = "";
  server.stderr.on("data", (data) => {
    log += data;
    const match = log.match(/http:\/\/[^ ]*:(\d+)/);
    if (match) found(Number(match[1]));
  });
  server.on("exit", () => failed(new Error(log)));
});
const ended = new Promise((done) => server.on("exit", (code, signal) => done(code ?? signal)));
const client = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: "none", maxRetries: 0, timeout: 600000 });

const wrong = [], counts = {};
const complain = (kind, what) => wrong.push(`${kind}: ${JSON.stringify(what)}`);
const body = ({ prompt, tokens, seed, temperature, stop }) => ({ model: model.split("/").pop().replace(/\.h5$/, ""), prompt, max_tokens: tokens, seed, temperature, ...(stop ? { stop } : {}) });
const finish = (reason) => (reason === "length" ? "length" : "stop");
const compare = (kind, one, text, reason, tokens) => {
  const want = expected[one.id];
  if (text !== want.text || reason !== finish(want.finish_reason) || (tokens !== undefined && tokens !== want.tokens))
    complain(kind, { one, text, reason, tokens, want });
};
const raw = (one, stream) => {
  const text = JSON.stringify({ ...body(one), stream });
  return `POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
};

const kinds = {
  async whole(one) {
    const answer = await client.completions.create(body(one));
    compare("whole", one, answer.choices[0].text, answer.choices[0].finish_reason, answer.usage.completion_tokens);
  },
  async streamed(one) {
    let text = "", reason = null;
    for await (const event of await client.completions.create({ ...body(one), stream: true })) {
      text += event.choices[0].text;
      reason = event.choices[0].finish_reason ?? reason;
    }
    compare("streamed", one, text, reason);
  },
  // Several prompts in one request, each with its text.
  async several(one) {
    const { prompt, ...rest } = body(one);
    const answer = await client.completions.create({ ...rest, prompt: [prompt, prompt], n: 1 });
    for (const choice of answer.choices) compare("several", one, choice.text, choice.finish_reason);
  },
  // Reads nothing for a while, then everything.
  slow: (one) => new Promise((done) => {
    const socket = net.connect(port, "127.0.0.1", () => socket.write(raw(one, true)));
    let all = "";
    socket.pause();
    setTimeout(() => socket.resume(), 200 + below(3000));
    socket.setEncoding("utf8");
    socket.on("data", (data) => (all += data));
    socket.on("error", (error) => { complain("slow", error.message); done(); });
    socket.on("end", () => {
      const events = [...all.matchAll(/^data: (\{.*\})\r?$/gm)].map((match) => JSON.parse(match[1]));
      const choices = events.flatMap((event) => event.choices);
      compare("slow", one, choices.map((choice) => choice.text).join(""), choices.at(-1)?.finish_reason);
      done();
    });
  }),
  // Closes the connection without a word, sometimes in the middle of the request.
  gone: (one) => new Promise((done) => {
    const text = raw({ ...one, tokens: 200 }, below(2) === 0);
    const socket = net.connect(port, "127.0.0.1", () => {
      socket.write(below(4) === 0 ? text.slice(0, below(text.length)) : text);
      setTimeout(() => { socket.destroy(); done(); }, below(300));
    });
    socket.on("error", done);
  }),
  async cancelled(one) {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), below(200));
    try {
      for await (const event of await client.completions.create({ ...body(one), max_tokens: 200, stream: true }, { signal: abort.signal }))
        if (event.choices[0].text === undefined) complain("cancelled", event);
    } catch (error) {
      if (!abort.signal.aborted) complain("cancelled", error.message);
    }
  },
  async broken(one) {
    const bodies = ["{", "[]", JSON.stringify({ ...body(one), prompt: undefined }), JSON.stringify({ ...body(one), max_tokens: -1 }),
      JSON.stringify({ ...body(one), model: "gpt" }), JSON.stringify({ ...body(one), colour: 1 }), JSON.stringify({ ...body(one), max_tokens: 1e6 })];
    const answer = await fetch(`http://127.0.0.1:${port}/v1/completions`, { method: "POST", body: pick(bodies) });
    const object = await answer.json();
    if (answer.status < 400 || answer.status > 404 || !object.error?.message) complain("broken", { status: answer.status, object });
  },
};
// As often as they stand here.
const mix = ["whole", "whole", "whole", "whole", "whole", "streamed", "streamed", "streamed", "several", "slow", "gone", "cancelled", "cancelled", "broken"];

const memory = () => Number(readFileSync(`/proc/${server.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1]) / 1024;
const metric = async (name) => Number((await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()).match(new RegExp(`^hone_${name} (\\S+)$`, "m"))[1]);

const total = Number(requests), began = Date.now(), rss = [];
let next = 0;
const worker = async () => {
  while (next < total) {
    const number = ++next, kind = pick(mix), one = pick(asked);
    counts[kind] = (counts[kind] ?? 0) + 1;
    if (number % Math.max(1, Math.floor(total / 40)) === 0) {
      rss.push(Math.round(memory()));
      process.stderr.write(`${number}/${total} requests, ${rss.at(-1)} MB\n`);
    }
    try {
      await kinds[kind](one);
    } catch (error) {
      complain(kind, error.message);
    }
  }
};
await Promise.all(Array.from({ length: Number(atATime) }, worker));
const seconds = (Date.now() - began) / 1000;
for (let i = 0; i < 100 && (await metric("texts_running")) + (await metric("texts_waiting")) > 0; ++i) await sleep(100);
const left = { running: await metric("texts_running"), waiting: await metric("texts_waiting"), pages: await metric("pages_in_use") };
const tally = { came: await metric("texts_total"), finished: await metric("texts_finished_total"), cancelled: await metric("texts_cancelled_total") };
if (left.running + left.waiting + left.pages > 0) complain("left", left);
if (tally.came !== tally.finished + tally.cancelled) complain("lost", tally);
// From the middle on nothing may be added.
const half = rss.slice(Math.floor(rss.length / 2)), growth = half.at(-1) - half[0];
if (growth > 0.05 * half[0] + 5) complain("memory", rss);
server.kill("SIGTERM");
const status = await ended;
if (status !== 143) complain("exit", status);
console.log(JSON.stringify({ requests: total, at_a_time: Number(atATime), seconds, counts, tally, left, rss_mb: rss, status, wrong: wrong.length }));
for (const one of wrong.slice(0, 5)) console.error(one.slice(0, 2000));
rmSync(folder, { recursive: true });
process.exit(wrong.length > 0 ? 1 : 0);
