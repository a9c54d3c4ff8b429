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


def within(file: str, *rows: tuple[str, str, str]) -> list[Mutation]:
    """Return the mutations of a file from rows of (name, old, new)."""
    return [Mutation(name, file, old, new) for name, old, new in rows]


#: Engine -> (its fast tests, mutations).
ENGINES: dict[str, tuple[list[str], list[Mutation]]] = {
    "reduction": (
        ["test_reductions.py"],
        [
            *within(
                "statistics.py",
                ("identity of sum", "over(torch.sum, 0),", "over(torch.sum, 1),"),
            ),
            *within(
                "engines/reduction_kernels.py",
                ("identity of prod", "_kept(x, mask, 1)", "_kept(x, mask, 0)"),
                ("identity of max", "return -math.inf if largest else math.inf", "return 0.0"),
                ("displacement of indices", "index = index + domain.corner[axis]", "index = index + 0"),
                (
                    "displacement of flat indices",
                    "(index % lshape[axis] + domain.corner[axis]) * stride",
                    "(index % lshape[axis]) * stride",
                ),
                ("stride of flat indices", "stride *= domain.shape[axis]", "stride *= lshape[axis]"),
            ),
            *within(
                "engines/reduction.py",
                (
                    "keepdims",
                    "target = layout.keep(axes) if keepdims else layout.drop(axes)",
                    "target = layout.drop(axes) if keepdims else layout.keep(axes)",
                ),
                (
                    "no combination",
                    "combine = layout.split is not None and layout.split in axes",
                    "combine = False",
                ),
                ("needless message", "if plan.combine and", "if"),
            ),
            *within(
                "layout.py",
                ("axis shift", "kept.index(self.split), self.counts)", "self.split, self.counts)"),
            ),
            *within(
                "engines/monoid.py",
                ("ties", "(same & (j < i))", "(same & (j > i))"),
                ("shift of means", "delta * delta * n_a * share", "0 * delta"),
            ),
            *within(
                "moments.py",
                ("number of elements", "carry[1] if len(carry) > 1 else float(domain.n)", "float(domain.n)"),
                ("ddof", "max(domain.n - ddof, 0.0)", "max(domain.n, 0.0)"),
            ),
        ],
    ),
    "scan": (
        ["test_scans.py"],
        [
            *within(
                "engines/scan.py",
                ("tiles of columns", "row.join(part[:1], made[at - 1 : at])", "pass"),
                ("identity", 'operator="sum", identity=0', 'operator="sum", identity=1'),
                ("no carry", "if comm.rank:\n", "if False:\n"),
                ("inclusive carry", "comm.exscan(", "comm.scan("),
                (
                    "first row",
                    "(layout.counts[0] + 1, *layout.counts[1:])",
                    "(*layout.counts[:-1], layout.counts[-1] + 1)",
                ),
                ("needless message", "if layout.split == axis and comm.size > 1", "if comm.size > 1"),
                ("rounded carry", "if dtype in (torch.float16, torch.bfloat16):", "if False:"),
                ("missing numbers", "torch.where(local != local, row.identity, local)", "local"),
            ),
            *within(
                "calculus.py",
                ("halo of diff", "_with_neighbours(x, axis, 0, n)", "_with_neighbours(x, axis, n, 0)"),
            ),
            *within(
                "scans.py",
                ("identity of products", "identity=1,", "identity=0,"),
            ),
        ],
    ),
    "selection": (
        ["test_quantiles.py"],
        [
            *within(
                "engines/order_statistics.py",
                (
                    "displacement of dealt columns",
                    "start = part.start + after.displs[rank]",
                    "start = part.start",
                ),
                (
                    "uneven rows",
                    "before = Layout((self.n, c), 0, self.counts)",
                    "before = Layout.even((self.n, c), 0, p)",
                ),
            ),
            *within(
                "quantiles.py",
                (
                    "missing numbers",
                    "numbers = columns.count_numbers() if skips_nan else None",
                    "numbers = None",
                ),
            ),
            *within(
                "engines/selection.py",
                ("rank below", "(self.k < less)", "(self.k <= less)"),
                (
                    "base",
                    "return less_ + source.base, within_, nan_ > 0, kept",
                    "return less_, within_, nan_ > 0, kept",
                ),
                ("missed bracket", "not bool(missed.any())", "True"),
            ),
            *within(
                "engines/selection_pass.py",
                ("successor", "torch.where(tile > edge, tile, top)", "torch.where(tile >= edge, tile, top)"),
                ("NaN", "nan |= tile.amax(1).isnan()", "pass"),
            ),
        ],
    ),
    "elementwise": (
        ["test_operations.py", "test_elementwise.py", "test_array.py"],
        [
            *within(
                "engines/elementwise.py",
                ("alignment of axes", "target.split - (target.ndim - x.ndim)", "target.split"),
                ("broadcast extent", "result[axis] = n if n != 1 else result[axis]", "result[axis] = n"),
                (
                    "broadcast along the split",
                    "or axis < 0 or x.shape[axis] != target.shape[target.split]:",
                    "or axis < 0:",
                ),
                (
                    "uneven counts",
                    "return Layout(x.shape, axis, target.counts)",
                    "return Layout.even(x.shape, axis, len(target.counts))",
                ),
                (
                    "candidates",
                    "if axis is not None and x.shape[x.split] == shape[axis]:",
                    "if axis is not None:",
                ),
                (
                    "dearer operand moves",
                    "best = min(candidates, key=moved)",
                    "best = max(candidates, key=moved)",
                ),
                ("masked elements", "torch.where(mask, value, out.larray)", "torch.where(mask, value, 0)"),
                ("out over an operand", "and not overlap(call.locals, out.larray)", ""),
                (
                    "order of unsigned",
                    "signed = [x ^ torch.iinfo(x.dtype).min if x.dtype in _UNSIGNED else x for x in signed]",
                    "pass",
                ),
                ("integer out of bounds", "if not limits.min <= value <= limits.max:", "if False:"),
            ),
        ],
    ),
    "redistribution": (
        ["test_array.py", "test_distribution.py", "test_rearranging.py", "test_rearranging_costs.py"],
        [
            *within(
                "engines/redistribution.py",
                ("needless message", "if source is target or comm.size == 1:", "if comm.size == 1:"),
                ("uneven cut", "cut(local, target.counts,", "cut(local, target.balanced().counts,"),
                ("start of rows", "local.narrow(axis, start, stop", "local.narrow(axis, 0, stop"),
                ("copy", "if copy else here", "if False else here"),
            ),
            *within(
                "engines/taped.py",
                ("displacement of a cut", "sum(counts[: comm.rank])", "0"),
            ),
            *within(
                "layout.py",
                ("displacement of a box", "(start, start + self.counts[rank])", "(0, self.counts[rank])"),
                (
                    "owner beside empty ranks",
                    "return bisect_right(self.displs, row) - 1",
                    "return self.displs.index(max(d for d in self.displs if d <= row))",
                ),
                ("axis of permute", "list(axes).index(self.split)", "axes[self.split]"),
                ("axis of insert", "(axis <= self.split)", "(axis < self.split)"),
            ),
            *within(
                "engines/pieces.py",
                ("flipped source", "((s1 - (b - t0), s1 - (a - t0)) if", "((s0 + a - t0, s0 + b - t0) if"),
                ("flipped target", "((t0 + s1 - b, t0 + s1 - a) if", "((t0 + a - s0, t0 + b - s0) if"),
                ("displacement of a piece", "slice(start - origin, stop - origin)", "slice(start, stop)"),
                ("repeated rows", "in reversed(repeats)", "in repeats[:0]"),
                ("needless exchange", "link.peer != rank for rank", "True for rank"),
                ("order of flips", "kept.flip(link.piece.flip) if link.piece.flip else kept", "kept"),
            ),
            *within(
                "engines/runs.py",
                ("strides of runs", "math.prod(shape[axis + 1 :]) for", "math.prod(shape[axis:]) for"),
                ("displacement of runs", "zip(box, strides)) - start", "zip(box, strides))"),
                ("displacement in a part", "slice(a - c, b - c)", "slice(a, b)"),
            ),
        ],
    ),
    "creation": (
        ["test_creation.py", "test_layout.py"],
        [
            *within(
                "engines/creation.py",
                ("displacement", "layout.offset(comm.rank), kind", "0, kind"),
                ("layout like", 'if split == "like" and comm in (None, x.comm):', "if False:"),
                ("split like", 'split = x.split if split == "like"', 'split = None if split == "like"'),
                ("negative split", 'normalize_axis(split, ndim, op, "split")', "split"),
                ("sign of unsigned", "(int(value) + 2**63) % 2**64 - 2**63", "int(value) % 2**63"),
            ),
            *within(
                "layout.py",
                (
                    "even counts",
                    "(small + 1,) * more + (small,) * (p - more)",
                    "(small,) * (p - more) + (small + 1,) * more",
                ),
            ),
            *within(
                "building_matrices.py",
                (
                    "axis of the diagonal",
                    "(offset if axis == 0 else 0) - (offset if axis == 1 else 0)",
                    "(offset if axis == 1 else 0) - (offset if axis == 0 else 0)",
                ),
            ),
            *within(
                "grids.py",
                ("displacement of indices", "first = offset if a == cut else 0", "first = 0"),
            ),
        ],
    ),
    "indexing": (
        ["test_indexing.py"],
        [
            *within(
                "engines/indexing.py",
                ("displacement of a slice", "step - source.displs[rank]", "step"),
                ("first row of a step", "max(-((start - b) // step), 0)", "max((b - start) // step, 0)"),
                ("displacement of a row", "index -= layout.displs[owner]", "index -= 0"),
                ("reversal stays", "sum(n > 0 for n in counts) > 1", "False"),
                ("reversed boxes", "(extent - stop, extent - start) if", "(start, stop) if"),
                ("shared row", ".clone(memory_format=torch.contiguous_format)\n    if comm", "\n    if comm"),
                ("value over itself", "piece.clone() if overlaps(piece, target) else piece", "piece"),
                ("owner of a value", "elif owner is not None and rank != owner and box:", "elif False:"),
            ),
            *within(
                "engines/index_key.py",
                (
                    "negative integer",
                    "return index + extent if index < 0",
                    "return index + extent - 1 if index < 0",
                ),
                ("place of arrays", "groups[0] if len(groups) == 1 else 0", "groups[0] if groups else 0"),
            ),
            *within(
                "engines/gather.py",
                ("negative entries", "torch.where(local < 0, local + extent, local)", "local.clamp(min=0)"),
                ("displacement of keys", "here - source.displs[rank] if", "here if"),
                (
                    "displacement of own keys",
                    "return index.local - source.displs[rank]",
                    "return index.local",
                ),
                (
                    "order of answers",
                    "index_copy_(0, order + first if first else order,",
                    "index_copy_(0, order.sort()[0],",
                ),
                ("displacement of a mask", "+= layout.displs[comm.rank]", "+= 0"),
                (
                    "counts of a mask",
                    "(*layout.displs, layout.shape[layout.split])",
                    "(*layout.balanced().displs, layout.shape[layout.split])",
                ),
                (
                    "owners of rows",
                    "stops = [d + n for d, n in zip(source.displs, source.counts)]",
                    "stops = [d + n for d, n in zip(source.balanced().displs, source.balanced().counts)]",
                ),
                ("owners that decrease", "or _decreases(first)", ""),
                (
                    "axis of the result",
                    "broadcast.ndim if rest.split >= position else 0",
                    "broadcast.ndim if rest.split > position else 0",
                ),
            ),
            *within(
                "engines/scatter.py",
                ("last one wins", "out=is_last[:-1])", "out=is_last[1:])"),
                ("rows over themselves", "if overlaps(rows, self.view):", "if False:"),
            ),
            *within(
                "engines/index_small.py",
                ("axis of a small result", "return position + along", "return along"),
                ("axis beside small keys", "ndim if rest.split >= position else 0", "ndim"),
            ),
        ],
    ),
    "sort": (
        ["test_sorting.py"],
        [
            *within(
                "engines/sort_by_parts.py",
                (
                    "displacement of places",
                    "offset, n = sum(counts[: comm.rank]), sum(counts)",
                    "offset, n = 0, sum(counts)",
                ),
                ("ties before", "tied[0] |= at > 0 and", "tied[0] |= False and"),
                ("ties behind", "tied[-1] |= at + 1 < len(held) and", "tied[-1] |= False and"),
                ("order over ranks", "and all(a[3] <= b[2] for a, b in pairwise(held))", ""),
                ("order on a rank", "all(end[1] for end in held) and ", ""),
                ("keys that wait", "torch.cat([waiting, moved]) if len(waiting) else moved", "moved"),
                ("places of owners", "- sum(counts[: comm.rank])\n    told", "\n    told"),
            ),
            *within(
                "engines/sort.py",
                ("exact cuts", "quota = targets - below - comm.exscan(equal)", "quota = targets - below"),
                ("probes", "(upto <= targets[:, None]).sum(-1)", "(upto < targets[:, None]).sum(-1)"),
                ("common prefix", "int(differing.max()).bit_length()", "int(differing.min()).bit_length()"),
                ("order of ties", "    _order_ties(keys, order)\n    return order", "    return order"),
                ("ties of words", "tied[:-1] |= ~starts[1:]", "tied[:-1] |= False"),
                (
                    "segments of columns",
                    "torch.arange(columns, device=packed.device) * extent",
                    "torch.arange(columns, device=packed.device) * 0",
                ),
                ("order of segments", "copy_segments(moved, starts, got.T.reshape(-1))", "moved"),
            ),
            *within(
                "engines/sort_keys.py",
                (
                    "negative numbers",
                    "keys.bitwise_xor_(torch.bitwise_right_shift(keys, limits.bits - 1).bitwise_and_(limits.max))",
                    "pass",
                ),
                ("NaN of either sign", "(least < ~infinity) | (most > infinity)", "most > infinity"),
                ("unsigned", "keys.bitwise_xor_(torch.iinfo(keys.dtype).min)", "pass"),
                ("zeros are equal", "if join_zeros and bool(least < 0):", "if False:"),
                (
                    "missing real part",
                    ".masked_fill_(no_real, infinity + 2)",
                    ".masked_fill_(no_real, infinity + 1)",
                ),
            ),
            *within(
                "sorting.py",
                ("order of zeros", "if is_mixed:", "if False:"),
                ("zeros over ranks", "rows.is_floating_point() and _has_both_zeros(keys, x.comm)", "False"),
                (
                    "axis",
                    "return rows.movedim(-1, axis).contiguous()",
                    "return rows.movedim(-1, 0).contiguous()",
                ),
                ("displacement of topk", "places + x.layout.displs[x.comm.rank]", "places"),
                ("absent of topk", "(0, absent), value=-1)", "(0, absent), value=0)"),
            ),
        ],
    ),
    "sets": (
        ["test_sets.py"],
        [
            *within(
                "engines/distinct.py",
                ("displacement", "here + sum(counts[: comm.rank]), counts", "here, counts"),
                ("NaN apart", "starts |= apart(ranked)", "pass"),
                (
                    "cuts",
                    "sent = torch.tensor(cuts, dtype",
                    "sent = torch.tensor([0, *(min(c + 1, cuts[-1]) for c in cuts[1:])], dtype",
                ),
            ),
            *within(
                "sets.py",
                ("first of several ranks", '["amin", "amin"]', '["amax", "amax"]'),
                ("global places", "return places + offset * inner", "return places"),
                (
                    "global places within",
                    "(outer * x.shape[x.split] + offset) * inner",
                    "(outer * x.shape[x.split]) * inner",
                ),
            ),
            *within(
                "engines/sorted_lookup.py",
                ("displacement of a look-up", ".add_(layout.displs[comm.rank])", ""),
                ("ends of parts", "lasts[ranks[:-1]]", "lasts[ranks]"),
            ),
        ],
    ),
    "random": (
        ["test_random.py"],
        [
            *within(
                "sampling.py",
                ("displacement", "return layout.displs[rank] * inner, runs", "return 0, runs"),
                (
                    "uneven rows",
                    "runs, layout.counts[rank] * inner, max",
                    "runs, layout.balanced().counts[rank] * inner, max",
                ),
                ("stride of runs", "stride = layout.shape[layout.split] * inner", "stride = inner"),
            ),
            *within(
                "permutation.py",
                ("owners of rows", 'side="right") - 1', 'side="left") - 1'),
                ("order of arrival", "index_copy_(axis, arrival, moved)", "copy_(moved)"),
            ),
        ],
    ),
    "gradients": (
        ["test_autograd.py", "test_autograd_orders.py"],
        [
            *within(
                "engines/taped.py",
                ("part of other ranks", "return comm.tape.to_local(local)", "return local"),
                ("slice of a whole", "return comm.tape.block(local, counts, axis=axis)", "pass"),
                (
                    "factors of the ranks before",
                    "allgather(x[None])[:n].prod(0)",
                    "allgather(x[None])[: n + 1].prod(0)",
                ),
                ("rows that come round", "if target < plans[self.rank].before]", "if target < 0]"),
            ),
            *within(
                "engines/recording.py",
                (
                    "share of a replicated result",
                    "seed / comm.size if is_local and layout.split is None else seed",
                    "seed",
                ),
                (
                    "sum over ranks",
                    "return comm.allreduce(g) if create else comm.origin.allreduce(g)",
                    "return g",
                ),
                (
                    "silent loss",
                    "if is_lost or (fed and made and not any(y.requires_grad for y in made)):",
                    "if False:",
                ),
            ),
            *within(
                "quantiles.py",
                ("equal elements share", " / total(hit, axis=axes, keepdims=True)", ""),
                ("between two elements", "[(low, 1 - gamma), (high, gamma)]", "[(low, 1 - gamma)]"),
            ),
        ],
    ),
    "neighbours": (
        ["test_rearranging.py", "test_manipulation.py", "test_scans.py", "test_array.py"],
        [
            *within(
                "halos.py",
                (
                    "halo behind",
                    "(displ + count, min(displ + count + after, n))",
                    "(displ + count, displ + count)",
                ),
                ("halo in front", "(max(displ - before, 0), displ)", "(displ, displ)"),
            ),
            *within(
                "unfolding.py",
                ("windows of a rank", "min(-(-displ // step), windows)", "min(displ // step, windows)"),
            ),
            *within(
                "diagonals.py",
                (
                    "displacement of the diagonal",
                    "shift = offset + start if is_row else offset - start",
                    "shift = offset",
                ),
            ),
            *within(
                "tiling.py",
                (
                    "displacement of tiles",
                    "starts = [displ % n for displ in layout.displs]",
                    "starts = [0 for displ in layout.displs]",
                ),
            ),
        ],
    ),
}
