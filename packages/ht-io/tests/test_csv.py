"""Round trips through CSV on p ranks, files as others write them, and bad ones."""

import os

import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core import Layout
from ht_core.errors import DTypeError, LayoutError
from ht_io import csv_parse, csv_write, load, load_csv, load_csv_from_folder, save, save_csv
from io_arrays import DTYPES, distribute, make_counts, make_global, same


def check_load(path, expected, p=(1, 3), **options):
    """Load on some numbers of ranks with every split, and compare with a tensor."""

    def read(comm):
        for split in (None, 0, 1):
            x = load_csv(path, split=split, **options)
            assert x.layout is Layout.even(tuple(expected.shape), split, comm.size)
            assert same(x.larray, expected[x.layout.slices(comm.rank)].contiguous())

    for size in p:
        spmd(size, read)


@pytest.mark.parametrize("shape", [(0,), (7,), (1, 5), (5, 3), (17, 2)], ids=str)
@pytest.mark.parametrize("band", [1 << 20, 4])
def test_round_trip_p_to_q(tmp_path, monkeypatch, shape, band):
    monkeypatch.setattr(csv_write, "_BAND", band)
    values = make_global(shape, "float64")
    expected = values.reshape(shape[0], -1) if len(shape) == 1 and shape[0] else values

    def write(comm, split):
        counts = None if split is None else make_counts(shape[split], comm.size, seed=5)
        x = distribute(values, comm, split, counts, strided=True)
        save(x, tmp_path / "x.csv")
        assert same(x.larray, distribute(values, comm, split, counts).larray)

    for p in (1, 2, 4):
        for split in (None, *range(len(shape))):
            spmd(p, write, split)
            if values.numel():
                check_load(tmp_path / "x.csv", expected, p=(1, 3))
            else:
                assert load(tmp_path / "x.csv").shape == (0, 0)
    assert os.listdir(tmp_path) == ["x.csv"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_keeps_its_bits(tmp_path, dtype):
    """Including the extremes of each type, and numbers with all their digits."""
    values = make_global((40, 3), dtype)
    real = values.real if values.dtype.is_complex else values
    if real.dtype.is_floating_point:
        info = torch.finfo(real.dtype)
        noise = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        real[:, 1] = (noise * 10.0 ** torch.arange(-4, 4).repeat(5)).to(real.dtype)
        real[2:6, 2] = torch.tensor([info.max, info.min, info.tiny, -0.0], dtype=real.dtype)
    elif dtype != "bool":
        info = torch.iinfo(values.dtype)
        values.numpy()[:2, 2] = [info.max, info.min]

    def write(comm):
        save_csv(distribute(values, comm, 0), tmp_path / "x.csv")

    spmd(2, write)
    check_load(tmp_path / "x.csv", values, dtype=dtype)
    if real.dtype.is_floating_point:
        back = load_csv(tmp_path / "x.csv", dtype=dtype).larray
        back = back.real if values.dtype.is_complex else back
        assert torch.equal(torch.signbit(back[5]), torch.signbit(real[5]))


def test_every_digit_of_random_bits(tmp_path):
    bits = np.random.default_rng(1).integers(0, 1 << 63, size=60_000)
    values = bits.view("f8").reshape(-1, 3)
    values = torch.from_numpy(values[np.isfinite(values).all(axis=1)])
    single = torch.from_numpy((bits & 0x7F7FFFFF).astype("i4").view("f4").reshape(-1, 2))
    for whole in (values, single):
        save_csv(whole, tmp_path / "x.csv")
        dtype = "float64" if whole is values else "float32"
        assert torch.equal(load_csv(tmp_path / "x.csv", dtype=dtype).larray, whole)


TEXTS = {
    "crlf": b"1,2\r\n3,4\r\n",
    "no newline at the end": b"1,2\n3,4",
    "empty lines": b"\n1,2\n\n\n3,4\n\n",
    "empty lines and crlf": b"\r\n1,2\r\n\r\n3,4\r\n\r\n",
    "quoted": b'"1","2"\n"3",4\n',
    "blanks": b" 1, 2\n3 ,4 \n",
    "signs and exponents": b"+1,2e0\n.3e1,4.\n",
    "byte order mark": b"\xef\xbb\xbf1,2\n3,4\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_forms(tmp_path, name):
    (tmp_path / "x.csv").write_bytes(TEXTS[name])
    check_load(tmp_path / "x.csv", torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64), p=(1, 2, 5))


def test_headers_separators_and_encodings(tmp_path):
    text = '"a, quoted ""name""";bé\nsecond line\n1.5;nan\n-inf;0.1\n'
    expected = torch.tensor([[1.5, float("nan")], [-float("inf"), 0.1]], dtype=torch.float64)
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "x.csv").write_bytes(text.encode(encoding))
        check_load(tmp_path / "x.csv", expected, header_lines=2, sep=";", encoding=encoding)
    (tmp_path / "x.csv").write_text("only\n")
    assert load_csv(tmp_path / "x.csv", header_lines=1).shape == (0, 0)
    assert load_csv(tmp_path / "x.csv", header_lines=9).shape == (0, 0)

    def write(comm):
        x = distribute(expected, comm, 1)
        save_csv(x, tmp_path / "y.csv", ['"a, quoted ""name""";bé', "second line"], ";", encoding="latin-1")

    spmd(2, write)
    assert (tmp_path / "y.csv").read_bytes() == text.encode("latin-1")
    save_csv(expected[1:], tmp_path / "z.csv", "a,b", decimals=3)
    assert (tmp_path / "z.csv").read_text() == "a,b\n-inf,0.100\n"


def test_one_column_and_more_ranges_than_lines(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"1\n22222222222222222222222222222222222222\n3\n")
    expected = torch.tensor([[1.0], [22222222222222222222222222222222222222.0], [3.0]], dtype=torch.float64)
    check_load(tmp_path / "x.csv", expected, p=(1, 2, 3, 5, 7))


def test_pieces_smaller_than_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_parse, "_PIECE", 3)
    monkeypatch.setattr(csv_parse, "_BLOCK", 5)
    values = make_global((23, 4), "float64")
    save_csv(values, tmp_path / "x.csv")
    check_load(tmp_path / "x.csv", values)


@pytest.mark.parametrize("name", [*TEXTS, "nan", "true", "short", "whitespace"])
def test_the_fast_parser_reads_what_numpy_reads(tmp_path, monkeypatch, name):
    """The same values and the same refusals, wherever pandas is installed."""
    more = {
        "nan": b"nan,1\n-inf,NaN\n",
        "true": b"True,1\nTrue,2\n",
        "short": b"1,2\n3\n",
        "whitespace": b"1,2\n  \n",
    }
    (tmp_path / "x.csv").write_bytes({**TEXTS, **more}[name])

    def result():
        try:
            return load_csv(tmp_path / "x.csv").larray
        except ValueError as error:
            return str(error)

    slow = result()
    monkeypatch.setattr(csv_parse, "_LARGE", 0)
    fast = result()
    assert same(slow, fast) if isinstance(slow, torch.Tensor) else slow == fast
    assert isinstance(slow, str) == (name in ("true", "short", "whitespace"))


def test_large_blocks_take_the_fast_parser(tmp_path):
    reader = csv_parse._fast_reader()
    assert reader is not None
    dialect = csv_parse.Dialect("load_csv", ",", "utf-8", make_global((), "float64").dtype)
    assert reader(b"1,nan\n-inf,0.1\n", dialect).tolist()[1] == [-float("inf"), 0.1]
    values = torch.randn(20_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    save_csv(values, tmp_path / "x.csv")
    assert os.path.getsize(tmp_path / "x.csv") > csv_parse._LARGE
    assert torch.equal(load_csv(tmp_path / "x.csv").larray, values)


@pytest.mark.parametrize("split", [None, 0, 1])
def test_files_of_a_folder(tmp_path, split):
    values = make_global((20, 3), "float64")
    for number, (low, high) in enumerate([(0, 4), (4, 5), (5, 5), (5, 20)]):
        save_csv(values[low:high], tmp_path / f"{number}.csv", "a,b,c")
    (tmp_path / "readme.txt").write_text("no table")

    def read(comm):
        x = load_csv_from_folder(tmp_path, split=split, header_lines=1)
        assert x.layout is Layout.even((20, 3), split, comm.size)
        assert same(x.larray, values[x.layout.slices(comm.rank)].contiguous())

    for p in (1, 3):
        spmd(p, read)


def test_ranks_read_their_ranges_and_send_few_messages(tmp_path, monkeypatch):
    values = make_global((3000, 4), "float64")
    save_csv(values, tmp_path / "x.csv")
    size = os.path.getsize(tmp_path / "x.csv")
    parsed = []
    real = csv_parse.parse_block
    monkeypatch.setattr(
        csv_parse, "parse_block", lambda text, *args: parsed.append(len(text)) or real(text, *args)
    )

    def read(comm):
        with comm.trace() as trace:
            load_csv(tmp_path / "x.csv", split=0)
        assert trace.calls <= 2
        with comm.trace() as trace:
            save_csv(distribute(values, comm, 0), tmp_path / "y.csv")
        assert trace.calls == 5

    spmd(3, read)
    assert len(parsed) == 3
    assert sum(parsed) == size
    assert max(parsed) < size / 2


LINES = [f"{i},{i + 1},{i + 2}" for i in range(300)]


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("number", [1, 17, 150, 300])
@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("1,2", {}),
        ("1,2,3,4", {}),
        ("1,x,3", {}),
        ("1,,3", {}),
        ("1,2.5,3", {"dtype": "int64"}),
        ("1,300,3", {"dtype": "uint8"}),
    ],
)
def test_a_bad_line_is_named_on_all_ranks(tmp_path, p, number, line, options):
    lines = [*LINES] if options.get("dtype") != "uint8" else ["1,2,3"] * 300
    lines[number - 1] = line
    (tmp_path / "x.csv").write_text("a,b,c\n" + "\n".join(lines) + "\n")

    def read(comm):
        with pytest.raises(ValueError, match="load_csv: path must be a file of") as caught:
            load_csv(tmp_path / "x.csv", header_lines=1, split=0, **options)
        return str(caught.value)

    messages = set(spmd(p, read))
    assert len(messages) == 1
    expected = 3 if number == 1 and line.count(",") != 2 else number + 1  # the first line is taken for right
    assert f"x.csv:{expected}" in messages.pop()


def test_ranks_that_disagree_on_the_columns(tmp_path):
    (tmp_path / "x.csv").write_text("1,2\n" * 50 + "1,2,3\n" * 50)

    def read(comm):
        with pytest.raises(ValueError, match=r"x.csv:\d+") as caught:
            load_csv(tmp_path / "x.csv", split=0)
        return str(caught.value)

    for p in (1, 2, 3):
        assert len(set(spmd(p, read))) == 1


@pytest.mark.parametrize(
    ("name", "options", "kind", "text"),
    [
        ("missing.csv", {}, FileNotFoundError, "existing, readable file"),
        (".", {}, IsADirectoryError, "must be a file"),
        ("x.csv", {"sep": ""}, ValueError, "sep must be one ASCII character"),
        ("x.csv", {"sep": ", "}, ValueError, "sep must be one ASCII character"),
        ("x.csv", {"encoding": "utf-16"}, ValueError, "encoding must be one in which"),
        ("x.csv", {"encoding": "klingon"}, ValueError, "encoding must be one in which"),
        ("x.csv", {"header_lines": -1}, ValueError, "header_lines must be"),
        ("x.csv", {"header_lines": 1.5}, ValueError, "header_lines must be"),
        ("x.csv", {"split": 2}, LayoutError, "split must be in"),
        ("x.csv", {"dtype": "text"}, DTypeError, "dtype"),
        ("latin.csv", {"encoding": "utf-8"}, ValueError, "encoding must be that of the file.*latin.csv:2"),
    ],
)
def test_load_refuses(tmp_path, name, options, kind, text):
    (tmp_path / "x.csv").write_text("1,2\n")
    (tmp_path / "latin.csv").write_bytes(b"1,2\n3,\xe9\n")

    def read(comm):
        with pytest.raises(kind, match=text) as caught:
            load_csv(tmp_path / name, **options)
        return str(caught.value)

    assert len(set(spmd(3, read))) == 1


@pytest.mark.parametrize(
    ("target", "options", "kind", "text"),
    [
        ("nowhere/x.csv", {}, FileNotFoundError, "existing directory"),
        ("x.csv", {"mode": "x"}, FileExistsError, "new file"),
        ("x.csv", {"mode": "a"}, ValueError, "for this format"),
        ("y.csv", {"truncate": False}, ValueError, "truncate must be True"),
        ("y.csv", {"decimals": -2}, ValueError, "decimals must be"),
        ("y.csv", {"sep": "ab"}, ValueError, "sep must be"),
        ("y.csv", {"header_lines": ["é"], "encoding": "ascii"}, ValueError, "encoding must have the letters"),
        ("y.csv", {"header_lines": [3]}, TypeError, "header_lines must be strings"),
        ("y.csv", {"data": np.zeros((2, 2, 2))}, LayoutError, "at most 2 axes"),
    ],
)
def test_save_refuses(tmp_path, target, options, kind, text):
    (tmp_path / "x.csv").write_text("old")
    options = {"data": np.ones((6, 2)), **options}

    def write(comm):
        with pytest.raises(kind, match=text) as caught:
            save_csv(path=tmp_path / target, **options)
        return str(caught.value)

    assert len(set(spmd(2, write))) == 1
    assert os.listdir(tmp_path) == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "old"


@pytest.mark.parametrize("what", ["format_rows", "write_all"])
def test_a_rank_that_fails_in_the_middle(tmp_path, monkeypatch, what):
    (tmp_path / "x.csv").write_text("old")
    real = getattr(csv_write, what)

    def fail(*args):
        if b"23.0" in bytes(args[1]) if what == "write_all" else bool((args[0] == 23).any()):
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(csv_write, what, fail)
    monkeypatch.setattr(csv_write, "_BAND", 8)

    def write(comm):
        with pytest.raises(OSError, match="No space left") as caught:
            save_csv(distribute(torch.arange(40.0).reshape(20, 2), comm, 0), tmp_path / "x.csv")
        return str(caught.value)

    assert len(set(spmd(3, write))) == 1
    assert os.listdir(tmp_path) == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "old"


@pytest.mark.mpi
def test_on_ranks(comm, shared_tmp_path):
    values = make_global((10, 3), "float64")
    save_csv(distribute(values, comm, 1), shared_tmp_path / "x.csv")
    x = load_csv(shared_tmp_path / "x.csv", split=0)
    assert same(x.larray, values[x.layout.slices(comm.rank)])
