// Outside CI: the greedy tokens of Hone beside those of llama.cpp, by npm's node-llama-cpp.
//
//   npm install node-llama-cpp
//   node tests/tools/compare_gguf.mjs build/bin/generate model.h5 model.gguf "prompt" [tokens]
//
// model.gguf is what `convert model.h5 --to gguf` wrote. Exit status 1 where the texts differ.
import { spawnSync } from "node:child_process";
import { pathToFileURL } from "node:url";

const llamaModule = pathToFileURL(process.cwd() + "/node_modules/node-llama-cpp/dist/index.js").href;
const { getLlama } = await import(llamaModule);
const [generate, hone, gguf, prompt, count = "40"] = process.argv.slice(2);

const done = spawnSync(generate, [hone, "--prompt", prompt, "--tokens", count, "--temperature", "0", "--format", "jsonl", "-q",
  "--precision", "f32"], { maxBuffer: 1 << 28 });
if (done.status !== 0) throw new Error(done.stderr.toString());
const ours = JSON.parse(done.stdout.toString()).text;

const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 1 });
const model = await llama.loadModel({ modelPath: gguf });
const context = await model.createContext({ contextSize: 256, threads: 1 });
const sequence = context.getSequence();
const tokens = [];
for await (const token of sequence.evaluate(model.tokenize(prompt), { temperature: 0 })) {
  if (model.isEogToken(token)) break;
  tokens.push(token);
  if (tokens.length >= Number(count)) break;
}
const theirs = model.detokenize(tokens);
console.log(JSON.stringify({ hone: ours, llama_cpp: theirs }));
process.exit(ours === theirs ? 0 : 1);
