"""A language model of half a megabyte, so that tests talk to the real Ollama without a download."""

from pathlib import Path

import gguf
import numpy as np

LAYERS = 2
WIDTH = 64
HEADS = 2
FEED_FORWARD = 128
CONTEXT = 2048
SEED = 7

CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant: "
"""What Ollama recognises as a chat template (its content decides nothing here)."""


def _tokens() -> tuple[list[str], list[float], list[int]]:
    """Return a vocabulary of the three control tokens, all bytes and the printable letters."""
    names = ["<unk>", "<s>", "</s>"]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    names += [f"<0x{value:02X}>" for value in range(256)]
    kinds += [gguf.TokenType.BYTE] * 256
    letters = ["\u2581", *map(chr, range(ord("!"), ord("~") + 1))]
    names += letters
    kinds += [gguf.TokenType.NORMAL] * len(letters)
    return names, [-float(index) for index in range(len(names))], [int(kind) for kind in kinds]


def tiny_model(path: Path) -> None:
    """Write a llama of two layers with random, always equal weights to `path` (GGUF, below 1 MB).

    It answers with letters without sense, which is enough to see tokens flow.
    """
    names, scores, kinds = _tokens()
    random = np.random.default_rng(SEED)

    def weights(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(names))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(names)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)

    embedding = weights(len(names), WIDTH)
    output = weights(len(names), WIDTH)
    # Only letters are ever the likeliest answer: no control tokens, no bytes that are half a character.
    output[: 3 + 256] = 0.0
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(WIDTH, dtype=np.float32))
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", np.ones(WIDTH, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(WIDTH, WIDTH))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", weights(WIDTH, FEED_FORWARD))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
