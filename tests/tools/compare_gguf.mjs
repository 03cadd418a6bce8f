// Outside CI: the greedy tokens of Hone beside those of llama.cpp, by npm's node-llama-cpp.
//
//   npm install node-llama-cpp
//   node tests/tools/compare_gguf.mjs [--tokens N] [--within NATS] build/bin/generate model.h5 model.gguf PROMPT...
//
// model.gguf is what `convert model.h5 --to gguf` wrote. A line for each prompt: `first` is the place of the first token that
// differs, -1 where none does, and `gap` how much less probable Hone takes llama.cpp's token for than its own, in nats (null: it
// is not among the first 100). Exit status 1 where a prompt's tokens differ by more than NATS (0).
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const rest = process.argv.slice(2);
const option = (name, otherwise) => {
  const at = rest.indexOf(name);
  return at < 0 ? otherwise : Number(rest.splice(at, 2)[1]);
};
const count = option("--tokens", 40), within = option("--within", 0);
const [generate, hone, gguf, ...prompts] = rest;

const folder = mkdtempSync(join(tmpdir(), "compare-gguf-"));
let ours;
try {
  const input = join(folder, "in.jsonl"), output = join(folder, "out.jsonl");
  writeFileSync(input, prompts.map((prompt) => JSON.stringify({ prompt }) + "\n").join(""));
  const done = spawnSync(generate, [hone, "--input", input, "--output", output, "--ordered", "--tokens", String(count),
    "--temperature", "0", "--logprobs", "100", "-q", "--precision", "f32"]);
  if (done.status !== 0) throw new Error(done.stderr.toString());
  ours = readFileSync(output, "utf8").trim().split("\n").map((line) => JSON.parse(line));
} finally {
  rmSync(folder, { recursive: true });
}

const { getLlama } = await import(pathToFileURL(process.cwd() + "/node_modules/node-llama-cpp/dist/index.js").href);
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 1 });
const model = await llama.loadModel({ modelPath: gguf });
// Keys and values in f32, as Hone has them: llama.cpp's own default is f16.
const context = await model.createContext({ contextSize: 256, threads: 1, flashAttention: false,
  experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" });
const sequence = context.getSequence();
let worst = 0;
for (const [i, prompt] of prompts.entries()) {
  await sequence.clearHistory();
  const tokens = [];
  for await (const token of sequence.evaluate(model.tokenize(prompt), { temperature: 0 })) {
    if (model.isEogToken(token)) break;
    tokens.push(token);
    if (tokens.length >= count) break;
  }
  const mine = ours[i].logprobs ?? [], most = Math.max(mine.length, tokens.length);
  let first = 0;
  while (first < most && mine[first]?.id === tokens[first]) ++first;
  const result = { prompt, tokens: most, first: first < most ? first : -1 };
  if (first < most) {
    const theirs = mine[first]?.top?.find((other) => other.id === tokens[first]);
    result.gap = theirs ? mine[first].logprob - theirs.logprob : null;
    worst = Math.max(worst, result.gap ?? Infinity);
  }
  console.log(JSON.stringify(result));
}
process.exit(worst > within ? 1 : 0);
