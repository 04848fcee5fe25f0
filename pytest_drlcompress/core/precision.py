"""The precision in which this processor multiplies matrices fastest."""

import torch


def fastest_dtype() -> torch.dtype:
    """``bfloat16`` where the processor has instructions for it, else ``float32``."""
    able = torch.cpu.get_capabilities()
    native = able.get("avx512_bf16") or able.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32
