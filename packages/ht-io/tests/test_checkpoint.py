"""Trees saved on p ranks and restored on q, without pickle."""

import json
import os

import h5py
import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core import Layout
from ht_io import checkpoint, checkpoint_tree, hdf5_items
from io_arrays import DTYPES, distribute, make_counts, make_global, same

VALUES = make_global((11, 3), "float64")


class Scaler:
    """What an estimator is to a checkpoint."""

    def __init__(self, factor=1.0):
        self.factor = factor


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """A registered class, for this test only."""
    monkeypatch.setattr(checkpoint_tree, "REGISTERED", dict(checkpoint_tree.REGISTERED))
    monkeypatch.setattr(checkpoint, "REGISTERED", checkpoint_tree.REGISTERED)
    checkpoint.register(Scaler)


PLAIN = {
    "numbers": [1, -(2**70), 0.1, float("inf"), -0.0, True, None, 1 - 2j],
    "text": ["", "ünï \0 \ud800", b"\x00\xff"],
    ("a", 1): (1, (2, [3, {}])),
    3: {None: (), 2.5: []},
    "dtypes": [torch.bfloat16, ht.float32],
}


@pytest.mark.parametrize("p", [1, 2])
def test_plain_values(tmp_path, p):
    def check(comm):
        checkpoint.save(tmp_path / "x.h5", PLAIN)
        back = checkpoint.load(tmp_path / "x.h5")
        assert back == PLAIN
        assert [type(v) for v in back["numbers"]] == [type(v) for v in PLAIN["numbers"]]
        assert str(back["numbers"][4]) == "-0.0"
        assert list(back) == list(PLAIN)
        checkpoint.save(tmp_path / "x.h5", [float("nan"), np.float32(0.1), np.int8(-3)])
        nan, single, small = checkpoint.load(tmp_path / "x.h5")
        assert nan != nan
        assert (type(single), single) == (np.float32, np.float32(0.1))
        assert (type(small), small) == (np.int8, -3)

    spmd(p, check)


@pytest.mark.parametrize(("p", "q"), [(1, 3), (3, 3), (3, 1), (2, 4), (4, 2)])
def test_arrays_keep_their_split_on_other_ranks(tmp_path, p, q):
    values = {dtype: make_global((7, 4), dtype) for dtype in DTYPES}

    def write(comm):
        arrays = {
            n: distribute(v, comm, i % 3 or None, None)
            for i, (n, v) in enumerate(values.items())
            if i % 3 < 2
        }
        arrays |= {n: distribute(v, comm, 0, make_counts(7, p)) for n, v in values.items() if n not in arrays}
        tree = {
            "arrays": arrays,
            "torch": [v.clone() for v in values.values()],
            "scalar": distribute(torch.tensor(3), comm, None),
        }
        tree["numpy"] = {
            n: v.numpy().astype(v.numpy().dtype.newbyteorder(">"))
            for n, v in values.items()
            if n != "bfloat16"
        }
        tree["again"] = tree["torch"][0]
        tree["empty"] = distribute(torch.empty(0, 3), comm, 0)
        checkpoint.save(tmp_path / "x.h5", tree)
        return {n: (a.split, a.layout.counts) for n, a in arrays.items()}

    layouts = spmd(p, write)[0]

    def read(comm):
        back = checkpoint.load(tmp_path / "x.h5")
        for name, x in back["arrays"].items():
            split, counts = layouts[name]
            even = Layout.even((7, 4), split, q)
            assert x.layout is (Layout((7, 4), split, counts) if p == q and split is not None else even)
            assert same(x.larray, values[name][x.layout.slices(comm.rank)].contiguous())
        assert all(same(a, b) for a, b in zip(back["torch"], values.values()))
        for name, found in back["numpy"].items():
            assert found.dtype == values[name].numpy().dtype.newbyteorder(">")
            np.testing.assert_array_equal(found, values[name].numpy())
        assert back["again"] is back["torch"][0]
        assert back["scalar"].shape == ()
        assert back["empty"].shape == (0, 3)

    spmd(q, read)


def test_split_of_all(tmp_path):
    def check(comm):
        checkpoint.save(tmp_path / "x.h5", [distribute(VALUES, comm, 0), distribute(VALUES, comm, None)])
        for split in (None, 0, 1):
            for x in checkpoint.load(tmp_path / "x.h5", split=split):
                assert x.split == split
                assert same(x.larray, VALUES[x.layout.slices(comm.rank)].contiguous())

    spmd(2, check)


def test_training_goes_on_with_the_same_bits(tmp_path):
    """A module, an optimizer with momenta, the random state: stop, restore, go on."""

    def start():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.8, 0.99))

    def train(model, optimizer, rng, steps):
        for _ in range(steps):
            x = rng.standard_normal((5, 3)).larray.float()
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

    rng = ht.random.default_rng(5)
    model, optimizer = start()
    train(model, optimizer, rng, 3)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": rng,
        "raw": rng.get_state(),
    }
    checkpoint.save(tmp_path / "x.h5", state)
    train(model, optimizer, rng, 3)
    other, further = start()
    back = checkpoint.load(tmp_path / "x.h5")
    assert back["raw"] == state["raw"]
    other.load_state_dict(back["model"])
    further.load_state_dict(back["optimizer"])
    train(other, further, back["rng"], 3)
    for a, b in zip(model.parameters(), other.parameters()):
        assert torch.equal(a, b)


def test_registered_objects(tmp_path):
    scaler = Scaler(2.0)
    scaler.seen_ = Scaler()
    scaler.scale_ = torch.ones(3, requires_grad=True)
    checkpoint.save(tmp_path / "x.h5", [scaler])
    (back,) = checkpoint.load(tmp_path / "x.h5")
    assert type(back) is Scaler
    assert (back.factor, back.seen_.factor) == (2.0, 1.0)
    assert back.scale_.requires_grad
    del checkpoint_tree.REGISTERED[f"{__name__}.Scaler"]
    with pytest.raises(ValueError, match=r"known classes, got '.*Scaler'; install the wheel"):
        checkpoint.load(tmp_path / "x.h5")
    with pytest.raises(TypeError, match="got Scaler at tree\\[0\\]"):
        checkpoint.save(tmp_path / "x.h5", [scaler])


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "ht_io.checkpoint.save",
        "ht_ml.cluster.lloyd",
        "subprocess.Popen",
        "ht_ml.base.clone",
    ],
)
def test_a_file_cannot_name_code(tmp_path, name):
    text = json.dumps({"version": 1, "tree": {"object": name, "state": []}})
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["tree"] = np.frombuffer(text.encode(), np.uint8)
    with pytest.raises(ValueError, match="known classes"):
        checkpoint.load(tmp_path / "x.h5")


def loop():
    """A list that holds itself."""
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("tree", "options", "kind", "text"),
    [
        ({"f": print}, {}, TypeError, "got builtin_function_or_method at tree\\['f'\\]"),
        ([{1, 2}], {}, TypeError, "got set at tree\\[0\\]"),
        (loop(), {}, ValueError, "must not hold itself"),
        (np.array(["a"]), {}, TypeError, "arrays of numbers"),
        (torch.eye(2).to_sparse(), {}, TypeError, "dense tensors"),
        ({}, {"mode": "a"}, ValueError, "mode must be"),
        ({}, {"mode": "x"}, FileExistsError, "new file"),
    ],
)
def test_save_refuses(tmp_path, tree, options, kind, text):
    checkpoint.save(tmp_path / "x.h5", 1)

    def write(comm):
        with pytest.raises(kind, match=text) as caught:
            checkpoint.save(tmp_path / "x.h5", tree, **options)
        return str(caught.value)

    assert len(set(spmd(2, write))) == 1
    assert checkpoint.load(tmp_path / "x.h5") == 1


def test_ranks_that_disagree(tmp_path):
    def write(comm):
        with pytest.raises(ValueError, match="the same on every rank"):
            checkpoint.save(tmp_path / "x.h5", {"step": comm.rank})

    spmd(2, write)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("missing.h5", FileNotFoundError, "existing, readable file"),
        (".", IsADirectoryError, "must be a file"),
        ("other.h5", OSError, "must be a checkpoint"),
        ("short.h5", OSError, "complete HDF5 file"),
        ("later.h5", ValueError, "version 1, got version 2"),
        ("strange.h5", ValueError, "kind 'lambda'"),
    ],
)
def test_load_refuses(tmp_path, name, kind, text):
    checkpoint.save(tmp_path / "x.h5", torch.ones(1000))
    (tmp_path / "short.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:3000])
    for other, content in {
        "later": {"version": 2, "tree": 1},
        "strange": {"version": 1, "tree": {"lambda": 1}},
    }.items():
        with h5py.File(tmp_path / f"{other}.h5", "w") as file:
            file["tree"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1

    def read(comm):
        with pytest.raises(kind, match=text) as caught:
            checkpoint.load(tmp_path / name)
        return str(caught.value)

    assert len(set(spmd(2, read))) == 1


def test_a_rank_that_fails_in_the_middle(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "x.h5", {"step": 1})
    before = (tmp_path / "x.h5").read_bytes()
    real = hdf5_items.write_raw

    def fail(handle, offset, item, comm):
        failure = real(handle, offset, item, comm)
        return OSError(28, "No space left on device") if comm.rank == 1 else failure

    monkeypatch.setattr(hdf5_items, "write_raw", fail)

    def write(comm):
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(tmp_path / "x.h5", {"x": distribute(VALUES, comm, 0), "step": 2})

    spmd(3, write)
    assert (tmp_path / "x.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["x.h5"]


def test_messages_do_not_grow_with_the_tree(tmp_path):
    def count(comm, number):
        tree = [distribute(VALUES, comm, 0) for _ in range(number)]
        with comm.trace() as trace:
            checkpoint.save(tmp_path / "x.h5", tree)
        return trace.calls

    assert spmd(2, count, 30)[0] <= spmd(2, count, 1)[0] + 1


@pytest.mark.mpi
def test_on_ranks(comm, shared_tmp_path):
    checkpoint.save(shared_tmp_path / "x.h5", {"x": distribute(VALUES, comm, 0), "step": 2})
    back = checkpoint.load(shared_tmp_path / "x.h5")
    assert back["step"] == 2
    assert same(back["x"].larray, VALUES[back["x"].layout.slices(comm.rank)])


@pytest.mark.parametrize(("p", "q"), [(1, 3), (3, 2)])
def test_restored_like_given_arrays(tmp_path, p, q):
    """Uneven counts, another type, another split, replicated; None leaves what was saved."""
    tensor = torch.arange(6.0, requires_grad=True)

    def write(comm):
        x = distribute(VALUES, comm, 0, make_counts(11, p))
        tree = {"x": [x, x, 3], "y": (distribute(VALUES, comm, 1),), "t": tensor, "n": VALUES.numpy(), "z": x}
        checkpoint.save(tmp_path / "x.h5", {**tree, "u": distribute(VALUES[:4], comm, 0), "s": Scaler(2.0)})

    def read(comm):
        counts = make_counts(11, q, seed=5)
        single = distribute(VALUES.float(), comm, 0, counts)
        like = {
            "x": [single, None, 7],
            "y": (distribute(VALUES, comm, None),),
            "t": torch.ones(6, dtype=torch.float64),
            "n": np.ones((11, 3), ">f4"),
            "z": None,
            "u": None,
            "s": Scaler(),
        }
        back = checkpoint.load(tmp_path / "x.h5", like=like)
        assert back["x"][0].layout is single.layout
        assert same(back["x"][0].larray, single.larray)
        assert back["x"][1] is back["x"][0]  # it was one array
        assert back["x"][2] == 3
        assert (back["y"][0].split, back["u"].split, back["s"].factor) == (None, 0, 2.0)
        assert same(back["y"][0].larray, VALUES)
        assert (back["t"].dtype, back["t"].requires_grad) == (torch.float64, True)
        assert back["n"].dtype == ">f4"
        np.testing.assert_array_equal(back["n"], VALUES.numpy().astype("f4"))

    spmd(p, write)
    spmd(q, read)


@pytest.mark.parametrize(
    ("like", "text"),
    [
        ({"a": None}, "a dict with the keys 'a', 'b', 'c' at tree, got dict of 1"),
        ({"a": None, "b": None, "d": None}, "a dict with"),
        ([1], "a dict with"),
        ({"a": [None], "b": None, "c": None}, "a list of 2 at tree\\['a'\\], got list of 1"),
        ({"a": (None, None), "b": None, "c": None}, "a list of 2 at tree\\['a'\\], got tuple of 2"),
        ({"a": [None, 3], "b": None, "c": None}, "class DNDarray at tree\\['a'\\]\\[1\\], got int"),
        ({"a": [None, VALUES], "b": None, "c": None}, "class DNDarray at tree\\['a'\\]\\[1\\], got Tensor"),
        ({"a": [[], None], "b": None, "c": None}, "a plain value at tree\\['a'\\]\\[0\\], got list of 0"),
        ({"a": None, "b": Scaler, "c": None}, "Scaler at tree\\['b'\\], got type"),
        (
            {"a": None, "b": None, "c": torch.ones(3)},
            "shapes in the checkpoint, \\(2,\\) for array 1, got \\(3,\\)",
        ),
        ({"a": None, "b": None, "c": torch.ones(2), "split": 0}, "split must be True with like"),
    ],
    ids=lambda found: str(found)[:40],
)
def test_like_that_is_another_tree(tmp_path, like, text):
    def check(comm):
        tree = {"a": [1, distribute(VALUES, comm, 0)], "b": Scaler(), "c": torch.ones(2)}
        checkpoint.save(tmp_path / "x.h5", tree)
        options = {"split": like["split"]} if "split" in like else {}
        with pytest.raises(ValueError, match=text) as caught:
            checkpoint.load(tmp_path / "x.h5", like=like, **options)
        return str(caught.value)

    assert len(set(spmd(2, check))) == 1


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_tensors_that_differ_between_ranks_are_refused(tmp_path, kind):
    """As those of a training whose nodes have not been synchronised."""

    def write(comm):
        x = torch.ones(3, 4) if comm.rank == 0 else torch.full((3, 4), 2.0)
        with pytest.raises(ValueError, match="the same on every rank"):
            checkpoint.save(tmp_path / "x.h5", {"x": x if kind == "torch" else x.numpy()})

    spmd(2, write)


def test_counters_are_counters(tmp_path):
    """MultiStepLR keeps its milestones in one."""
    model = torch.nn.Linear(1, 1)
    schedulers = [
        torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD(model.parameters(), lr=1.0), [1, 2], 0.5)
        for _ in range(2)
    ]
    schedulers[0].optimizer.step()
    schedulers[0].step()
    checkpoint.save(tmp_path / "x.h5", schedulers[0].state_dict())
    schedulers[1].load_state_dict(checkpoint.load(tmp_path / "x.h5"))
    assert schedulers[1].milestones == schedulers[0].milestones
    assert list(schedulers[1].milestones.elements()) == [1, 2]
    assert schedulers[1].get_last_lr() == [0.5]
