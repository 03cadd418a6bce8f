#!/usr/bin/env bash
# llama.cpp (in node-llama-cpp 3.22.1): of a GGUF file with a vocabulary of type "gpt2" that names no end of a text, token 11 is the
# end, whatever it is. In GPT-2's order of bytes that is the comma: generation stops at the first one, without a word. The file is
# valid, and a model without an end of text is nothing unusual. Who writes such files names an end, be it one that is never written.
#
# Seen on Debian 12 with node 20:
#   without an end: token 11 (",") ends, 0 ("!") does not end   with end 200: 11 does not end, 200 ends
#
# Needs node, npm and python3; installs the npm package in a temporary folder. Status 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" node-llama-cpp@3.22.1 >/dev/null
/usr/bin/python3 - <<'PY'
import struct

DIM, VOCABULARY = 32, 256
# GPT-2's signs of the bytes, those that print first.
printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
signs = [chr(b) for b in printing] + [chr(256 + i) for i in range(256 - len(printing))]


def text(s):
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def whole(name, value):
    return key(name, 4, struct.pack("<I", value))


def several(name, kind, values):
    return key(name, 9, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def write(path, end):
    keys = [key("general.architecture", 8, text("llama")), whole("llama.context_length", 64), whole("llama.embedding_length", DIM),
            whole("llama.block_count", 1), whole("llama.feed_forward_length", DIM), whole("llama.attention.head_count", 1),
            whole("llama.rope.dimension_count", DIM), whole("llama.vocab_size", VOCABULARY),
            key("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
            key("tokenizer.ggml.model", 8, text("gpt2")), key("tokenizer.ggml.pre", 8, text("gpt-2")),
            several("tokenizer.ggml.tokens", 8, [text(s) for s in signs]),
            several("tokenizer.ggml.token_type", 5, [struct.pack("<i", 1)] * VOCABULARY), several("tokenizer.ggml.merges", 8, [])]
    if end is not None:
        keys.append(whole("tokenizer.ggml.eos_token_id", end))
    shapes = {"token_embd.weight": (DIM, VOCABULARY), "output_norm.weight": (DIM,), "output.weight": (DIM, VOCABULARY)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{name}.weight"] = (DIM, DIM)
    for name in ("attn_norm", "ffn_norm"):
        shapes[f"blk.0.{name}.weight"] = (DIM,)
    head, data = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(keys)) + b"".join(keys), b""
    for number, (name, shape) in enumerate(shapes.items()):
        size = 1
        for n in shape:
            size *= n
        head += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape) + struct.pack("<IQ", 0, len(data))
        data += struct.pack(f"<{size}f", *(((number * 7 + i * 13) % 17 - 8) / 40 for i in range(size)))
    head += b"\0" * (-len(head) % 32)
    open(path, "wb").write(head + data)


write("without.gguf", None)
write("with.gguf", 200)
PY
cat >ends.mjs <<'JS'
import { getLlama } from "node-llama-cpp";
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const ends = {};
for (const name of ["without", "with"]) {
  const model = await llama.loadModel({ modelPath: name + ".gguf" });
  ends[name] = [11, 0, 200].map((token) => model.isEogToken(token));
}
const say = (yes) => (yes ? "ends" : "does not end");
console.log(`without an end: token 11 (",") ${say(ends.without[0])}, 0 ("!") ${say(ends.without[1])}   ` +
  `with end 200: 11 ${say(ends.with[0])}, 200 ${say(ends.with[2])}`);
process.exit(ends.without[0] && !ends.without[1] && !ends.with[0] && ends.with[2] ? 0 : 1);
JS
node ends.mjs
