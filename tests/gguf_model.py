"""Writes a small decoder-only model with random weights as a GGUF file, as llama.cpp has them."""

from __future__ import annotations

import sys
from pathlib import Path

SPECIAL = ["<s>", "</s>", "<unk>"]
WORDS = [*map(chr, range(32, 127)), "th", "the", "in", "an", "and", "er"]
EMBEDDINGS, LAYERS, HEADS, WIDTH, CONTEXT = 32, 1, 2, 64, 2048
WEIGHT, TOKEN, CONTROL = "weight", 1, 3


def write(path: Path, words: bool = True, rows: int | None = None) -> None:
    """`words=False` leaves the tokenizer's words out; `rows` is the number of embeddings."""
    import gguf
    import numpy as np

    random = np.random.default_rng(0)
    tokens = [*SPECIAL, *("▁" if word == " " else word for word in (WORDS if words else []))]
    rows = rows or len(tokens)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDINGS)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(EMBEDDINGS // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(rows)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(n) for n in range(len(tokens))])
    writer.add_token_types([CONTROL] * len(SPECIAL) + [TOKEN] * (len(tokens) - len(SPECIAL)))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    square, up = (EMBEDDINGS, EMBEDDINGS), (WIDTH, EMBEDDINGS)
    layer = {
        "attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square,
        "ffn_gate": up, "ffn_up": up, "ffn_down": up[::-1],
        "attn_norm": square[:1], "ffn_norm": square[:1],
    }  # fmt: skip
    shapes = {f"blk.{n}.{name}": shape for n in range(LAYERS) for name, shape in layer.items()}
    shapes |= {"token_embd": (rows, EMBEDDINGS), "output": (rows, EMBEDDINGS)}
    shapes["output_norm"] = square[:1]
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
