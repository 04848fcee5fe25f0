"""What holds for a scale per channel (or group) against one for the whole tensor."""

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.testing.checks import UNIT
from pytest_drlcompress.testing.grid import Grid, MakeQuantizer, codes_of, fail, show, worst
from pytest_drlcompress.testing.range_checks import range_slack


def check_channels_independent(
    make: MakeQuantizer, x: NDArray[np.float32], *, axis: int, group: int | None = None
) -> None:
    """Multiplying one channel (or group) along ``axis`` leaves all others as they were.

    Holds where a channel's range is taken from the channel alone (minmax, percentile).
    """
    name = "check_channels_independent"
    before = make(x)
    grid, codes = Grid.of(name, before, x.shape), codes_of(before, x)
    width = 1 if group is None else group
    axis %= x.ndim
    factor = np.float32(4 if np.abs(x).max() < 2.0**100 else 0.25)
    for start in range(0, x.shape[axis], width):
        changed = np.array(x)
        here = (slice(None),) * axis + (slice(start, start + width),)
        changed[here] *= factor
        after = make(changed)
        differs = (Grid.of(name, after, x.shape).scale != grid.scale) | (
            codes_of(after, changed) != codes
        )
        differs[here] = False
        if differs.any():
            index, where = worst(differs.astype(np.float64))
            fail(
                name,
                f"multiplying index {start} of axis {axis} by {factor:g} changed the scale or the"
                f" integer of {where}, which lies at index {index[axis]} of that axis",
                "the scales run along another axis (or are shared), so one output channel's"
                " outlier coarsens all the others, which per-channel scales exist to prevent",
            )


def check_per_channel_error(
    make_per_channel: MakeQuantizer,
    make_per_tensor: MakeQuantizer,
    x: NDArray[np.float32],
    *,
    least_mse: bool = False,
) -> None:
    """A scale per channel is no worse than one per tensor, as far as that is true.

    "Never a larger mean squared error" is a theorem for ranges that minimise it
    (``least_mse=True``), if each channel may also choose what the tensor chooses: the sum of
    the minima is at most the minimum of the sums. For minmax ranges it is not: a tensor's
    coarser steps may hit a channel's values by luck (per channel [2, 1] in steps of 2/127
    misses 1; per tensor in steps of 1 hits it). What is true, and checked, is

    1. each channel's scale, so its worst error and the bound ``mean(s**2) / 4`` on its mean
       squared error, is at most the tensor's (channels that are all zero aside);
    2. every single error is at most ``s/2`` of the channel's own scale;
    3. where the tensor's scale is a whole multiple of the channel's, every value per tensor is
       one per channel too, so each single error is no larger.
    """
    name = "check_per_channel_error"
    channel, tensor = make_per_channel(x), make_per_tensor(x)
    fine, coarse = Grid.of(name, channel, x.shape), Grid.of(name, tensor, x.shape)
    why = "scales per channel cost bytes and a slower kernel; they must buy precision"
    by_channel = np.abs(np.asarray(channel.dequantize(channel.quantize(x)), np.float64) - x)
    by_tensor = np.abs(np.asarray(tensor.dequantize(tensor.quantize(x)), np.float64) - x)
    if least_mse:
        ours, theirs = np.square(by_channel).sum(), np.square(by_tensor).sum()
        # each float64 sum of n squares errs by n 2**-53 of itself at most, taken twice each
        if not ours <= theirs * (1 + x.size * 2.0**-50):
            fail(name, f"squared error {ours:.9g} per channel, {theirs:.9g} per tensor", why)
        return
    wider = (fine.scale > coarse.scale) & (x != 0)
    if wider.any():
        index, where = worst(wider.astype(np.float64))
        fail(
            name,
            f"at {where} the channel's scale {fine.scale[index]:.9g} is larger than the tensor's"
            f" {coarse.scale[index]:.9g}, although its values are among the tensor's",
            why,
        )
    slack = range_slack(fine)
    excess = by_channel - (fine.scale / 2 + slack)
    if not (excess <= 0).all():
        index, where = worst(np.nan_to_num(excess, nan=np.inf))
        fail(
            name,
            f"{where} = {show(x[index])} is off by {by_channel[index]:.6g} with a scale of"
            f" {fine.scale[index]:.6g}",
            why,
        )
    # A value nearest the middle of two steps may fall to either (2 |d||x|, see round_trip_slack),
    # the two products are rounded (u each), and where the channel's last step falls short of the
    # data the next one is missed (2 slacks).
    nested = np.rint(coarse.scale / fine.scale) * fine.scale == coarse.scale
    allowed = 2 * slack + UNIT * (7 * np.abs(x.astype(np.float64)) + 2 * coarse.scale)
    excess = np.where(nested, by_channel - by_tensor - allowed, -1.0)
    if (excess > 0).any():
        index, where = worst(excess)
        fail(
            name,
            f"{where} = {show(x[index])} is off by {by_channel[index]:.9g} per channel but by"
            f" {by_tensor[index]:.9g} per tensor, whose representable values are among the"
            " channel's",
            why,
        )
