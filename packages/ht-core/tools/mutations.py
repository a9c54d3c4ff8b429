"""What :mod:`mutate` breaks: for each engine its fast tests, and one line at a time that they must miss.

A new engine is a new row. A mutation is the mistake that a naive implementation makes: a displacement left out, even
counts where they are uneven, an axis off by one, a message where none is needed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """Replace `old`, which must occur in `file`, by `new`."""

    name: str
    file: str
    old: str
    new: str


#: Engine -> (its fast tests, mutations). A new engine is a new row.
ENGINES: dict[str, tuple[list[str], list[Mutation]]] = {
    "reduction": (
        ["test_reductions.py"],
        [
            Mutation("identity of sum", "statistics.py", "over(torch.sum, 0),", "over(torch.sum, 1),"),
            Mutation(
                "identity of prod", "engines/reduction_kernels.py", "_kept(x, mask, 1)", "_kept(x, mask, 0)"
            ),
            Mutation(
                "identity of max",
                "engines/reduction_kernels.py",
                "return -math.inf if largest else math.inf",
                "return 0.0",
            ),
            Mutation(
                "keepdims",
                "engines/reduction.py",
                "target = layout.keep(axes) if keepdims else layout.drop(axes)",
                "target = layout.drop(axes) if keepdims else layout.keep(axes)",
            ),
            Mutation(
                "displacement of indices",
                "engines/reduction_kernels.py",
                "index = index + domain.corner[axis]",
                "index = index + 0",
            ),
            Mutation(
                "displacement of flat indices",
                "engines/reduction_kernels.py",
                "(index % lshape[axis] + domain.corner[axis]) * stride",
                "(index % lshape[axis]) * stride",
            ),
            Mutation(
                "stride of flat indices",
                "engines/reduction_kernels.py",
                "stride *= domain.shape[axis]",
                "stride *= lshape[axis]",
            ),
            Mutation(
                "axis shift", "layout.py", "kept.index(self.split), self.counts)", "self.split, self.counts)"
            ),
            Mutation(
                "no combination",
                "engines/reduction.py",
                "combine = layout.split is not None and layout.split in axes",
                "combine = False",
            ),
            Mutation("needless message", "engines/reduction.py", "if plan.combine and", "if"),
            Mutation("ties", "engines/monoid.py", "(same & (j < i))", "(same & (j > i))"),
            Mutation(
                "number of elements",
                "moments.py",
                "carry[1] if len(carry) > 1 else float(domain.n)",
                "float(domain.n)",
            ),
            Mutation("ddof", "moments.py", "max(domain.n - ddof, 0.0)", "max(domain.n, 0.0)"),
            Mutation("shift of means", "engines/monoid.py", "delta * delta * n_a * share", "0 * delta"),
        ],
    ),
    "scan": (
        ["test_scans.py"],
        [
            Mutation(
                "identity", "engines/scan.py", 'operator="sum", identity=0', 'operator="sum", identity=1'
            ),
            Mutation("no carry", "engines/scan.py", "if comm.rank:\n", "if False:\n"),
            Mutation("inclusive carry", "engines/scan.py", "comm.exscan(", "comm.scan("),
            Mutation(
                "first row",
                "engines/scan.py",
                "(layout.counts[0] + 1, *layout.counts[1:])",
                "(*layout.counts[:-1], layout.counts[-1] + 1)",
            ),
            Mutation(
                "needless message",
                "engines/scan.py",
                "if layout.split == axis and comm.size > 1",
                "if comm.size > 1",
            ),
            Mutation(
                "rounded carry",
                "engines/scan.py",
                "if dtype in (torch.float16, torch.bfloat16):",
                "if False:",
            ),
            Mutation(
                "halo of diff",
                "calculus.py",
                "_with_neighbours(x, axis, 0, n)",
                "_with_neighbours(x, axis, n, 0)",
            ),
        ],
    ),
    "selection": (
        ["test_quantiles.py"],
        [
            Mutation(
                "displacement of dealt columns",
                "engines/order_statistics.py",
                "start = part.start + after.displs[rank]",
                "start = part.start",
            ),
            Mutation(
                "uneven rows",
                "engines/order_statistics.py",
                "before = Layout((self.n, c), 0, self.counts)",
                "before = Layout.even((self.n, c), 0, p)",
            ),
            Mutation(
                "missing numbers",
                "quantiles.py",
                "numbers = columns.count_numbers() if skips_nan else None",
                "numbers = None",
            ),
            Mutation("rank below", "engines/selection.py", "(self.k < less)", "(self.k <= less)"),
            Mutation(
                "base",
                "engines/selection.py",
                "return less_ + source.base, within_, nan_ > 0, kept",
                "return less_, within_, nan_ > 0, kept",
            ),
            Mutation("missed bracket", "engines/selection.py", "not bool(missed.any())", "True"),
            Mutation(
                "successor",
                "engines/selection_pass.py",
                "torch.where(tile > edge, tile, top)",
                "torch.where(tile >= edge, tile, top)",
            ),
            Mutation("NaN", "engines/selection_pass.py", "nan |= tile.amax(1).isnan()", "pass"),
        ],
    ),
    "elementwise": (
        ["test_operations.py", "test_elementwise.py", "test_array.py"],
        [
            Mutation(
                "alignment of axes",
                "engines/elementwise.py",
                "target.split - (target.ndim - x.ndim)",
                "target.split",
            ),
            Mutation(
                "broadcast extent",
                "engines/elementwise.py",
                "result[axis] = n if n != 1 else result[axis]",
                "result[axis] = n",
            ),
            Mutation(
                "broadcast along the split",
                "engines/elementwise.py",
                "or axis < 0 or x.shape[axis] != target.shape[target.split]:",
                "or axis < 0:",
            ),
            Mutation(
                "uneven counts",
                "engines/elementwise.py",
                "return Layout(x.shape, axis, target.counts)",
                "return Layout.even(x.shape, axis, len(target.counts))",
            ),
            Mutation(
                "candidates",
                "engines/elementwise.py",
                "if axis is not None and x.shape[x.split] == shape[axis]:",
                "if axis is not None:",
            ),
            Mutation(
                "dearer operand moves",
                "engines/elementwise.py",
                "best = min(candidates, key=moved)",
                "best = max(candidates, key=moved)",
            ),
            Mutation(
                "masked elements",
                "engines/elementwise.py",
                "torch.where(mask, value, out.larray)",
                "torch.where(mask, value, 0)",
            ),
            Mutation(
                "out over an operand",
                "engines/elementwise.py",
                "and not overlap(call.locals, out.larray)",
                "",
            ),
            Mutation(
                "order of unsigned",
                "engines/elementwise.py",
                "signed = [x ^ torch.iinfo(x.dtype).min if x.dtype in _UNSIGNED else x for x in signed]",
                "pass",
            ),
            Mutation(
                "integer out of bounds",
                "engines/elementwise.py",
                "if not limits.min <= value <= limits.max:",
                "if False:",
            ),
        ],
    ),
    "redistribution": (
        ["test_array.py", "test_distribution.py", "test_rearranging.py", "test_rearranging_costs.py"],
        [
            Mutation(
                "needless message",
                "engines/redistribution.py",
                "if source is target or comm.size == 1:",
                "if comm.size == 1:",
            ),
            Mutation("displacement of a cut", "engines/taped.py", "sum(counts[: comm.rank])", "0"),
            Mutation(
                "uneven cut",
                "engines/redistribution.py",
                "cut(local, target.counts,",
                "cut(local, target.balanced().counts,",
            ),
            Mutation(
                "start of rows",
                "engines/redistribution.py",
                "local.narrow(axis, start, stop",
                "local.narrow(axis, 0, stop",
            ),
            Mutation("copy", "engines/redistribution.py", "if copy else here", "if False else here"),
            Mutation(
                "displacement of a box",
                "layout.py",
                "(start, start + self.counts[rank])",
                "(0, self.counts[rank])",
            ),
            Mutation(
                "owner beside empty ranks",
                "layout.py",
                "return bisect_right(self.displs, row) - 1",
                "return self.displs.index(max(d for d in self.displs if d <= row))",
            ),
            Mutation("axis of permute", "layout.py", "list(axes).index(self.split)", "axes[self.split]"),
            Mutation("axis of insert", "layout.py", "(axis <= self.split)", "(axis < self.split)"),
            Mutation(
                "flipped source",
                "engines/pieces.py",
                "((s1 - (b - t0), s1 - (a - t0)) if",
                "((s0 + a - t0, s0 + b - t0) if",
            ),
            Mutation(
                "flipped target",
                "engines/pieces.py",
                "((t0 + s1 - b, t0 + s1 - a) if",
                "((t0 + a - s0, t0 + b - s0) if",
            ),
            Mutation(
                "displacement of a piece",
                "engines/pieces.py",
                "slice(start - origin, stop - origin)",
                "slice(start, stop)",
            ),
            Mutation("repeated rows", "engines/pieces.py", "in reversed(repeats)", "in repeats[:0]"),
            Mutation("needless exchange", "engines/pieces.py", "link.peer != rank for rank", "True for rank"),
            Mutation(
                "order of flips",
                "engines/pieces.py",
                "kept.flip(link.piece.flip) if link.piece.flip else kept",
                "kept",
            ),
            Mutation(
                "strides of runs",
                "engines/runs.py",
                "math.prod(shape[axis + 1 :]) for",
                "math.prod(shape[axis:]) for",
            ),
            Mutation(
                "displacement of runs", "engines/runs.py", "zip(box, strides)) - start", "zip(box, strides))"
            ),
            Mutation("displacement in a part", "engines/runs.py", "slice(a - c, b - c)", "slice(a, b)"),
        ],
    ),
    "creation": (
        ["test_creation.py", "test_layout.py"],
        [
            Mutation("displacement", "engines/creation.py", "layout.offset(comm.rank), kind", "0, kind"),
            Mutation(
                "layout like",
                "engines/creation.py",
                'if split == "like" and comm in (None, x.comm):',
                "if False:",
            ),
            Mutation(
                "split like",
                "engines/creation.py",
                'split = x.split if split == "like"',
                'split = None if split == "like"',
            ),
            Mutation(
                "even counts",
                "layout.py",
                "(small + 1,) * more + (small,) * (p - more)",
                "(small,) * (p - more) + (small + 1,) * more",
            ),
            Mutation(
                "negative split", "engines/creation.py", 'normalize_axis(split, ndim, op, "split")', "split"
            ),
            Mutation(
                "axis of the diagonal",
                "building_matrices.py",
                "(offset if axis == 0 else 0) - (offset if axis == 1 else 0)",
                "(offset if axis == 1 else 0) - (offset if axis == 0 else 0)",
            ),
            Mutation("displacement of indices", "grids.py", "first = offset if a == cut else 0", "first = 0"),
            Mutation(
                "sign of unsigned",
                "engines/creation.py",
                "(int(value) + 2**63) % 2**64 - 2**63",
                "int(value) % 2**63",
            ),
        ],
    ),
    "indexing": (
        ["test_indexing.py"],
        [
            Mutation("displacement of a slice", "engines/indexing.py", "step - source.displs[rank]", "step"),
            Mutation(
                "first row of a step",
                "engines/indexing.py",
                "max(-((start - b) // step), 0)",
                "max((b - start) // step, 0)",
            ),
            Mutation(
                "displacement of a row", "engines/indexing.py", "index -= layout.displs[owner]", "index -= 0"
            ),
            Mutation("reversal stays", "engines/indexing.py", "sum(n > 0 for n in counts) > 1", "False"),
            Mutation(
                "reversed boxes",
                "engines/indexing.py",
                "(extent - stop, extent - start) if",
                "(start, stop) if",
            ),
            Mutation(
                "shared row",
                "engines/indexing.py",
                ".clone(memory_format=torch.contiguous_format)\n    if comm",
                "\n    if comm",
            ),
            Mutation(
                "value over itself",
                "engines/indexing.py",
                "piece.clone() if overlaps(piece, target) else piece",
                "piece",
            ),
            Mutation(
                "owner of a value",
                "engines/indexing.py",
                "elif owner is not None and rank != owner and box:",
                "elif False:",
            ),
            Mutation(
                "negative integer",
                "engines/index_key.py",
                "return index + extent if index < 0",
                "return index + extent - 1 if index < 0",
            ),
            Mutation(
                "place of arrays",
                "engines/index_key.py",
                "groups[0] if len(groups) == 1 else 0",
                "groups[0] if groups else 0",
            ),
            Mutation(
                "negative entries",
                "engines/gather.py",
                "torch.where(local < 0, local + extent, local)",
                "local.clamp(min=0)",
            ),
            Mutation("displacement of keys", "engines/gather.py", "here - source.displs[rank] if", "here if"),
            Mutation(
                "displacement of own keys",
                "engines/gather.py",
                "return index.local - source.displs[rank]",
                "return index.local",
            ),
            Mutation(
                "order of answers",
                "engines/gather.py",
                "index_copy_(0, order + first if first else order,",
                "index_copy_(0, order.sort()[0],",
            ),
            Mutation("displacement of a mask", "engines/gather.py", "+= layout.displs[comm.rank]", "+= 0"),
            Mutation(
                "counts of a mask",
                "engines/gather.py",
                "(*layout.displs, layout.shape[layout.split])",
                "(*layout.balanced().displs, layout.shape[layout.split])",
            ),
            Mutation(
                "owners of rows",
                "engines/gather.py",
                "for d, n in zip(source.displs, source.counts)], device=rows",
                "for d, n in zip(source.balanced().displs, source.balanced().counts)], device=rows",
            ),
            Mutation(
                "owners that decrease", "engines/gather.py", "or bool((first[1:] < first[:-1]).any())", ""
            ),
            Mutation(
                "axis of the result",
                "engines/gather.py",
                "broadcast.ndim if rest.split >= position else 0",
                "broadcast.ndim if rest.split > position else 0",
            ),
            Mutation("last one wins", "engines/scatter.py", "out=is_last[:-1])", "out=is_last[1:])"),
            Mutation(
                "rows over themselves", "engines/scatter.py", "if overlaps(rows, self.view):", "if False:"
            ),
            Mutation(
                "axis of a small result", "engines/index_small.py", "return position + along", "return along"
            ),
            Mutation(
                "axis beside small keys",
                "engines/index_small.py",
                "ndim if rest.split >= position else 0",
                "ndim",
            ),
        ],
    ),
    "sort": (
        ["test_sorting.py"],
        [
            Mutation(
                "exact cuts",
                "engines/sort.py",
                "quota = targets - below - comm.exscan(equal)",
                "quota = targets - below",
            ),
            Mutation(
                "probes",
                "engines/sort.py",
                "(upto <= targets[:, None]).sum(-1)",
                "(upto < targets[:, None]).sum(-1)",
            ),
            Mutation(
                "common prefix",
                "engines/sort.py",
                "int(differing.max()).bit_length()",
                "int(differing.min()).bit_length()",
            ),
            Mutation(
                "displacement of places",
                "engines/sort.py",
                "offset, n = sum(counts[: comm.rank]), sum(counts)",
                "offset, n = 0, sum(counts)",
            ),
            Mutation(
                "order of ties",
                "engines/sort.py",
                "    _order_ties(keys, order)\n    return order",
                "    return order",
            ),
            Mutation("ties of words", "engines/sort.py", "tied[:-1] |= ~starts[1:]", "tied[:-1] |= False"),
            Mutation(
                "segments of columns",
                "engines/sort.py",
                "torch.arange(columns, device=packed.device) * extent",
                "torch.arange(columns, device=packed.device) * 0",
            ),
            Mutation(
                "order of segments",
                "engines/sort.py",
                "copy_segments(moved, starts, got.T.reshape(-1))",
                "moved",
            ),
            Mutation(
                "negative numbers",
                "engines/sort_keys.py",
                "keys.bitwise_xor_(torch.bitwise_right_shift(keys, limits.bits - 1).bitwise_and_(limits.max))",
                "pass",
            ),
            Mutation(
                "NaN of either sign",
                "engines/sort_keys.py",
                "(least < ~infinity) | (most > infinity)",
                "most > infinity",
            ),
            Mutation(
                "unsigned", "engines/sort_keys.py", "keys.bitwise_xor_(torch.iinfo(keys.dtype).min)", "pass"
            ),
            Mutation(
                "zeros are equal", "engines/sort_keys.py", "if join_zeros and bool(least < 0):", "if False:"
            ),
            Mutation("order of zeros", "sorting.py", "if is_mixed:", "if False:"),
            Mutation(
                "zeros over ranks",
                "sorting.py",
                "rows.is_floating_point() and _has_both_zeros(keys, x.comm)",
                "False",
            ),
            Mutation(
                "missing real part",
                "engines/sort_keys.py",
                ".masked_fill_(no_real, infinity + 2)",
                ".masked_fill_(no_real, infinity + 1)",
            ),
            Mutation(
                "axis",
                "sorting.py",
                "return rows.movedim(-1, axis).contiguous()",
                "return rows.movedim(-1, 0).contiguous()",
            ),
            Mutation("displacement of topk", "sorting.py", "places + x.layout.displs[x.comm.rank]", "places"),
            Mutation("absent of topk", "sorting.py", "(0, absent), value=-1)", "(0, absent), value=0)"),
        ],
    ),
    "sets": (
        ["test_sets.py"],
        [
            Mutation(
                "displacement",
                "engines/distinct.py",
                "here + sum(counts[: comm.rank]), counts",
                "here, counts",
            ),
            Mutation("NaN apart", "engines/distinct.py", "starts |= apart(ranked)", "pass"),
            Mutation("first of several ranks", "sets.py", '["amin", "amin"]', '["amax", "amax"]'),
            Mutation(
                "cuts",
                "engines/distinct.py",
                "sent = torch.tensor(cuts, dtype",
                "sent = torch.tensor([0, *(min(c + 1, cuts[-1]) for c in cuts[1:])], dtype",
            ),
            Mutation("global places", "sets.py", "return places + offset * inner", "return places"),
            Mutation(
                "global places within",
                "sets.py",
                "(outer * x.shape[x.split] + offset) * inner",
                "(outer * x.shape[x.split]) * inner",
            ),
            Mutation(
                "displacement of a look-up", "engines/sorted_lookup.py", ".add_(layout.displs[comm.rank])", ""
            ),
            Mutation("ends of parts", "engines/sorted_lookup.py", "lasts[ranks[:-1]]", "lasts[ranks]"),
        ],
    ),
    "random": (
        ["test_random.py"],
        [
            Mutation(
                "displacement", "sampling.py", "return layout.displs[rank] * inner, runs", "return 0, runs"
            ),
            Mutation(
                "uneven rows",
                "sampling.py",
                "runs, layout.counts[rank] * inner, max",
                "runs, layout.balanced().counts[rank] * inner, max",
            ),
            Mutation(
                "stride of runs",
                "sampling.py",
                "stride = layout.shape[layout.split] * inner",
                "stride = inner",
            ),
            Mutation("owners of rows", "permutation.py", 'side="right") - 1', 'side="left") - 1'),
            Mutation(
                "order of arrival", "permutation.py", "index_copy_(axis, arrival, moved)", "copy_(moved)"
            ),
        ],
    ),
    "gradients": (
        ["test_autograd.py"],
        [
            Mutation(
                "part of other ranks", "engines/taped.py", "return comm.tape.to_local(local)", "return local"
            ),
            Mutation(
                "slice of a whole",
                "engines/taped.py",
                "return comm.tape.block(local, counts, axis=axis)",
                "pass",
            ),
            Mutation(
                "share of a replicated result",
                "engines/recording.py",
                "seed / comm.size if is_local and layout.split is None else seed",
                "seed",
            ),
            Mutation(
                "sum over ranks",
                "engines/recording.py",
                "return comm.allreduce(g) if create else comm.origin.allreduce(g)",
                "return g",
            ),
            Mutation(
                "silent loss",
                "engines/recording.py",
                "if is_lost or (fed and made and not any(y.requires_grad for y in made)):",
                "if False:",
            ),
        ],
    ),
    "neighbours": (
        ["test_rearranging.py", "test_manipulation.py", "test_scans.py", "test_array.py"],
        [
            Mutation(
                "halo behind",
                "halos.py",
                "(displ + count, min(displ + count + after, n))",
                "(displ + count, displ + count)",
            ),
            Mutation("halo in front", "halos.py", "(max(displ - before, 0), displ)", "(displ, displ)"),
            Mutation(
                "windows of a rank",
                "unfolding.py",
                "min(-(-displ // step), windows)",
                "min(displ // step, windows)",
            ),
            Mutation(
                "displacement of the diagonal",
                "diagonals.py",
                "shift = offset + start if is_row else offset - start",
                "shift = offset",
            ),
            Mutation(
                "displacement of tiles",
                "tiling.py",
                "starts = [displ % n for displ in layout.displs]",
                "starts = [0 for displ in layout.displs]",
            ),
        ],
    ),
}
