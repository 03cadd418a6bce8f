#!/usr/bin/env python3
"""Outside CI: every architecture that goes to GGUF, in every type, beside llama.cpp: the same greedy tokens.

    npm install node-llama-cpp
    python3 tests/tools/compare_gguf_all.py build/bin FOLDER [ARCHITECTURE...]

Run where node_modules is; needs PyTorch and NumPy. FOLDER gets the models: those of tests/fixtures/make_exchange_fixtures.py, with
room for bytes and rows of whole blocks, as Hugging Face keeps them. Of each type of numbers Hone runs what it reads back from the GGUF
file, so that both have the same numbers. llama.cpp rounds activations where it meets f16 and blocks (q8_0, q4_0: to 8 bits), so that
there two tokens may change places whose log probabilities lie less than WITHIN apart, and in mixtures two experts, which moves
more (ROUTED). Exit status 1 where others do.
"""

import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))
import make_exchange_fixtures as fixtures  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

SIZES = dict(vocab_size=260, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128)
CHANGES = {
    "llama": {}, "qwen2": {}, "qwen3": dict(head_dim=32), "mixtral": {},
    "gpt2": dict(n_embd=64, n_head=4, n_positions=128),
    "qwen2_moe": dict(moe_intermediate_size=32, shared_expert_intermediate_size=64, mlp_only_layers=[]),
    "qwen3_moe": dict(head_dim=32, moe_intermediate_size=32, mlp_only_layers=[]),
    "olmoe": dict(num_key_value_heads=4, intermediate_size=32),
}
WITHIN = {"f32": 0.001, "f16": 0.03, "q8_0": 0.3, "q4_0": 0.3}  # nats
ROUTED = 1.5
PROMPTS = ("the river ", "Once upon a time, ", "0123456789")


def make(name, folder, number):
    model, config, _, options = fixtures.CASES[name]
    sizes = {key: SIZES[key] for key in SIZES if key in config}
    config = {**config, **sizes, **CHANGES[name]}
    weights = fixtures.Weights(500 + number, "F32")
    tokens = np.random.Generator(np.random.PCG64(number)).integers(0, 256, fixtures.TOKENS).tolist()
    fixtures.HERE = folder
    fixtures.write(name, config, weights, model(config, weights, torch.tensor(tokens)), tokens,
                   rename=options.get("rename", lambda n: n))


def main():
    tools, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    wanted = sys.argv[3:] or list(CHANGES)
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for number, name in enumerate(CHANGES):
        if name not in wanted:
            continue
        make(name, folder, number)
        model = folder / f"{name}.h5"
        subprocess.run([tools / "convert", folder / name, "--output", model, "--force", "-q"], check=True, stdout=subprocess.DEVNULL)
        for kind, within in WITHIN.items():
            gguf, back = folder / f"{name}-{kind}.gguf", folder / f"{name}-{kind}.h5"
            for source, target, more in ((model, gguf, ["--to", "gguf", "--type", kind]), (gguf, back, [])):
                subprocess.run([tools / "convert", source, *more, "--output", target, "--force", "-q"], check=True, stdout=subprocess.DEVNULL)
            if kind in ("q8_0", "q4_0") and any("experts" in key for key in fixtures.CASES[name][1]):
                within = ROUTED
            done = subprocess.run(["node", HERE / "compare_gguf.mjs", "--within", str(within), tools / "generate", back, gguf, *PROMPTS],
                                  stdout=subprocess.PIPE, text=True)
            results = [json.loads(line) for line in done.stdout.splitlines()]
            gaps = ", ".join(f"token {r['first']}: {r['gap']}" for r in results if r["first"] >= 0)
            print(f"{name:10} {kind:5} {sum(r['first'] < 0 for r in results)} of {len(PROMPTS)} texts are the same"
                  f"{'; others by ' + gaps if gaps else ''}{'' if done.returncode == 0 else '  FAILED'}", flush=True)
            failed += done.returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
