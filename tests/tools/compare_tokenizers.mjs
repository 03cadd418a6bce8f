// Outside CI: tokens of Hone beside those of npm's @huggingface/tokenizers, on a million characters of many scripts.
//
//   npm install @huggingface/tokenizers
//   node tests/tools/compare_tokenizers.mjs build/bin/inspect tokenizer.json …
//
// Prints a line for each file; exit status 1 where a token differs, with the first place.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const { Tokenizer } = require("@huggingface/tokenizers");

// xorshift: the same text at every run.
let state = 88172645463325252n;
const below = (n) => {
  state ^= (state << 13n) & 0xffffffffffffffffn;
  state ^= state >> 7n;
  state ^= (state << 17n) & 0xffffffffffffffffn;
  return Number(state % BigInt(n));
};
const pick = (list) => list[below(list.length)];

const scripts = [
  [0x61, 0x7a], [0x61, 0x7a], [0x41, 0x5a], [0xdf, 0xff], [0x100, 0x17f], [0x391, 0x3c9], [0x410, 0x44f], [0x5d0, 0x5ea], [0x620, 0x64a],
  [0x905, 0x939], [0x985, 0x9b9], [0xb85, 0xbb9], [0xe01, 0xe2e], [0x10a0, 0x10ff], [0x1200, 0x1248], [0x3041, 0x3096],
  [0x30a1, 0x30fa], [0x4e00, 0x9fa5], [0xac00, 0xd7a3], [0x1f600, 0x1f64f], [0x1d400, 0x1d433]];
const marks = [0x301, 0x308, 0x327, 0x64e, 0x93e, 0x94d, 0xe34];
const spaces = [" ", " ", " ", " ", " ", "  ", "\n", "\n\n", "\t", " \n", "   ", "\r\n", "\u00a0", "\u3000", "\u2003", "\u0085"];
const signs = [".", ",", "!", "?", "...", "'", "\"", "(", ")", "-", "--", "_", "/", "\\", "@", "#", "$", "%", "&", "*", "<", ">", "=", "«", "»",
  "“", "”", "’", "—", "…", "。", "،", "।", "€", "→", "\u200d", "\ufe0f", "\u00ad"];
const endings = ["'s", "'t", "'re", "'VE", "'m", "'ll", "'D", "’s"];

const word = () => {
  const [from, to] = pick(scripts);
  let text = "";
  for (let n = 1 + below(9); n > 0; --n) {
    text += String.fromCodePoint(from + below(to - from + 1));
    if (below(25) === 0) text += String.fromCodePoint(pick(marks));
  }
  if (below(30) === 0) text += pick(endings);
  return text;
};
const number = () => String(below(10 ** (1 + below(7)))) + (below(3) ? "" : pick(["½", "٣٤", "²", "Ⅷ", ",000", ".5"]));

const length = Number(process.env.LENGTH ?? 1000000);
let text = "";
while (text.length < length) text += pick([word, word, word, word, number, () => pick(signs)])() + (below(4) ? pick(spaces) : "");

const [inspect, ...files] = process.argv.slice(2);
let failed = false;
for (const file of files) {
  const json = JSON.parse(readFileSync(file, "utf8"));
  const theirs = new Tokenizer(json, { clean_up_tokenization_spaces: false });
  const done = spawnSync(inspect, [file, "--tokenize", "-", "--format", "json", "-q"], { input: text, maxBuffer: 1 << 30 });
  if (done.status !== 0) throw new Error(done.stderr.toString());
  const ours = JSON.parse(done.stdout.toString()).ids;
  const expected = theirs.encode(text, { add_special_tokens: false }).ids;
  let difference = "";
  for (let t = 0; t < Math.max(ours.length, expected.length) && !difference; ++t)
    if (ours[t] !== expected[t])
      difference = `token ${t}: ${ours.slice(Math.max(0, t - 2), t + 4)} here, ${expected.slice(Math.max(0, t - 2), t + 4)} there; ` +
        JSON.stringify(theirs.decode(expected.slice(Math.max(0, t - 3), t + 4)));
  failed ||= difference !== "";
  console.log(`${file}: ${text.length} characters, ${expected.length} tokens, ${difference || "no difference"}`);
}
process.exit(failed ? 1 : 0);
