#!/usr/bin/env python3
"""Outside CI: a Llama of about BYTES in safetensors with random numbers, to time loading: make_big_model.py FOLDER [F32|BF16] [BYTES]."""
import json, pathlib, struct, sys
import numpy as np
folder, kind, size = pathlib.Path(sys.argv[1]), (sys.argv[2:] or ["F32"])[0], int((sys.argv[3:] or [500_000_000])[0])
width = 4 if kind == "F32" else 2
dim, ffn, vocabulary, kv = 1024, 2816, 32000, 4
layer = dim * dim * 2 + 2 * dim * 64 * kv + 3 * dim * ffn
layers = max(1, round((size / width - 2 * vocabulary * dim) / layer)) if size / width > 2 * vocabulary * dim else 1
folder.mkdir(parents=True, exist_ok=True)
config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", vocab_size=vocabulary, hidden_size=dim, intermediate_size=ffn, num_hidden_layers=layers,
              num_attention_heads=16, num_key_value_heads=kv, head_dim=64, max_position_embeddings=2048, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)
(folder / "config.json").write_text(json.dumps(config))
shapes = {"model.embed_tokens.weight": (vocabulary, dim)}
for i in range(layers):
    p = f"model.layers.{i}."
    shapes.update({p + "input_layernorm.weight": (dim,), p + "self_attn.q_proj.weight": (dim, dim), p + "self_attn.k_proj.weight": (kv * 64, dim), p + "self_attn.v_proj.weight": (kv * 64, dim),
                   p + "self_attn.o_proj.weight": (dim, dim), p + "post_attention_layernorm.weight": (dim,), p + "mlp.gate_proj.weight": (ffn, dim), p + "mlp.up_proj.weight": (ffn, dim), p + "mlp.down_proj.weight": (dim, ffn)})
shapes.update({"model.norm.weight": (dim,), "lm_head.weight": (vocabulary, dim)})
header, at = {}, 0
for name, shape in shapes.items():
    end = at + int(np.prod(shape)) * width
    header[name] = dict(dtype=kind, shape=list(shape), data_offsets=[at, end]); at = end
text = json.dumps(header).encode(); text += b" " * (-len(text) % 8)
random = np.random.Generator(np.random.PCG64(1))
with open(folder / "model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for shape in shapes.values():
        values = random.standard_normal(int(np.prod(shape)), dtype=np.float32) * np.float32(0.02)
        file.write(values.tobytes() if width == 4 else (values.view(np.uint32) >> 16).astype("<u2").tobytes())
print(at, "bytes,", layers, "layers")
