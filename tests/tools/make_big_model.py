#!/usr/bin/env python3
"""Outside CI: a Llama of about BYTES in safetensors with random numbers, to time loading:

    python3 tests/tools/make_big_model.py FOLDER [F32|BF16] [BYTES]
"""

import json
import math
import pathlib
import struct
import sys

import numpy as np

DIM, FFN, VOCABULARY, HEADS, KV_HEADS, HEAD_DIM = 1024, 2816, 32000, 16, 4, 64


def shapes_of_layer(i):
    kv = KV_HEADS * HEAD_DIM
    shapes = {"input_layernorm": (DIM,), "self_attn.q_proj": (DIM, DIM), "self_attn.k_proj": (kv, DIM), "self_attn.v_proj": (kv, DIM),
              "self_attn.o_proj": (DIM, DIM), "post_attention_layernorm": (DIM,), "mlp.gate_proj": (FFN, DIM), "mlp.up_proj": (FFN, DIM),
              "mlp.down_proj": (DIM, FFN)}
    return {f"model.layers.{i}.{name}.weight": shape for name, shape in shapes.items()}


def main():
    folder, kind, size = pathlib.Path(sys.argv[1]), (sys.argv[2:] or ["F32"])[0], int((sys.argv[3:] or [500_000_000])[0])
    width = 4 if kind == "F32" else 2
    layer = sum(math.prod(shape) for shape in shapes_of_layer(0).values())
    layers = max(1, round((size / width - 2 * VOCABULARY * DIM) / layer))
    shapes = {"model.embed_tokens.weight": (VOCABULARY, DIM)}
    for i in range(layers):
        shapes.update(shapes_of_layer(i))
    shapes.update({"model.norm.weight": (DIM,), "lm_head.weight": (VOCABULARY, DIM)})

    folder.mkdir(parents=True, exist_ok=True)
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", vocab_size=VOCABULARY, hidden_size=DIM,
                  intermediate_size=FFN, num_hidden_layers=layers, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
                  head_dim=HEAD_DIM, max_position_embeddings=2048, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * width
        header[name] = dict(dtype=kind, shape=list(shape), data_offsets=[at, end])
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.Generator(np.random.PCG64(1))
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            values = random.standard_normal(math.prod(shape), dtype=np.float32) * np.float32(0.02)
            file.write(values.tobytes() if width == 4 else (values.view(np.uint32) >> 16).astype("<u2").tobytes())
    print(at, "bytes,", layers, "layers")


if __name__ == "__main__":
    main()
