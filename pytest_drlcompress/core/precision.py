"""The precision in which a device multiplies matrices fastest."""

import torch


def fastest_dtype(device: str = "cpu") -> torch.dtype:
    """``bfloat16`` where ``device``, a type of torch's, has instructions for it, else ``float32``.

    PyTorch multiplies in bfloat16 on any processor, but without such instructions ten times more
    slowly than in single precision.
    """
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        native = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32
