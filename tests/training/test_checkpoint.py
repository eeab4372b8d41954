import json
import os

import pytest
import torch
from torch import nn

from mote.training.checkpoint import Bound, Progress, differences, load_checkpoint, open_run, resumed, save_checkpoint


def trained(value: float, step: int) -> tuple[nn.Module, dict, Progress]:
    net = nn.Linear(3, 2)
    nn.init.constant_(net.weight, value)
    return net, {"optimizer": {"state": torch.full((2,), value)}, "scaler": None}, Progress(10, "abc", step, value)


def test_round_trip(tmp_path):
    net, training, progress = trained(1 / 3, 17)
    save_checkpoint(tmp_path / "last", net, training, progress)
    fresh = nn.Linear(3, 2)
    found = load_checkpoint(tmp_path / "last", fresh)
    assert found is not None and found[0] == progress and progress.epoch == 1
    assert torch.equal(found[1]["optimizer"]["state"], training["optimizer"]["state"])
    assert torch.equal(fresh.weight, net.weight) and torch.equal(fresh.bias, net.bias)
    assert load_checkpoint(tmp_path / "other", fresh) is None


def test_old_files_are_removed_only_after_the_commit(tmp_path):
    for step in (5, 10):
        save_checkpoint(tmp_path, *trained(float(step), step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["optimizer-00000010.pt", "state.json", "weights-00000010.safetensors"]


def test_the_last_k_are_kept_and_stand_in_for_a_damaged_one(tmp_path):
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, *trained(float(step), step), keep=2)
    assert len(list(tmp_path.iterdir())) == 5 and not list(tmp_path.glob("*00005*"))
    (tmp_path / "weights-00000015.safetensors").write_bytes(b"cut")
    net = nn.Linear(3, 2)
    with pytest.warns(UserWarning, match=r"weights-00000015.*going on from the checkpoint before"):
        found = load_checkpoint(tmp_path, net)
    assert found is not None and found[0].step == 10 and torch.all(net.weight == 10.0)
    save_checkpoint(tmp_path, *trained(12.0, 12), keep=2)  # the run went on from step 10: what lay after it is gone
    assert sorted(path.name[-20:] for path in tmp_path.glob("weights*")) == [
        "00000010.safetensors", "00000012.safetensors",
    ]  # fmt: skip
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state\.json: cannot be resumed from"):
        load_checkpoint(tmp_path, net)


def test_a_checkpoint_of_the_first_versions_names_no_older_ones(tmp_path):
    save_checkpoint(tmp_path, *trained(5.0, 5))
    state = json.loads((tmp_path / "state.json").read_text())
    assert state.pop("older") == []
    (tmp_path / "state.json").write_text(json.dumps(state))
    net = nn.Linear(3, 2)
    found = load_checkpoint(tmp_path, net)
    assert found is not None and found[0].step == 5 and torch.all(net.weight == 5.0)


def test_a_step_that_is_saved_again_is_kept_once(tmp_path):
    for value, step in ((5.0, 5), (10.0, 10), (11.0, 10)):
        save_checkpoint(tmp_path, *trained(value, step), keep=2)
    state = json.loads((tmp_path / "state.json").read_text())
    assert [one["progress"]["step"] for one in (state, *state["older"])] == [10, 5]


def test_what_the_user_put_into_the_folder_stays(tmp_path):
    own = ["notes.txt", "weights-best.safetensors", ".mote-notes", "weights-5.safetensors"]
    for name in own:
        (tmp_path / name).touch()
    (tmp_path / "copies").mkdir()
    for step in (5, 10):
        save_checkpoint(tmp_path, *trained(float(step), step))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*own, "copies", "optimizer-00000010.pt", "weights-00000010.safetensors", "state.json"}


@pytest.mark.parametrize("survived", range(7))
def test_a_kill_at_any_file_operation_leaves_a_whole_checkpoint(tmp_path, monkeypatch, survived):
    """Saving makes three renames and two removals here; stop at each of them, before it happens."""
    save_checkpoint(tmp_path, *trained(1.0, 1))
    real_replace, real_unlink, done = os.replace, type(tmp_path).unlink, []

    def counted(operation):
        def run(*arguments, **options):
            if len(done) == survived:
                raise KeyboardInterrupt
            done.append(operation)
            operation(*arguments, **options)

        return run

    monkeypatch.setattr(os, "replace", counted(real_replace))
    monkeypatch.setattr(type(tmp_path), "unlink", counted(real_unlink))
    try:
        save_checkpoint(tmp_path, *trained(2.0, 2))
        assert survived >= 5
    except KeyboardInterrupt:
        assert survived < 5
    monkeypatch.undo()
    net = nn.Linear(3, 2)
    found = load_checkpoint(tmp_path, net)
    expected = 1.0 if survived < 3 else 2.0  # the third rename is state.json
    assert found is not None and found[0].step == expected
    assert torch.all(net.weight == expected) and torch.all(found[1]["optimizer"]["state"] == expected)
    save_checkpoint(tmp_path, *trained(3.0, 3))
    assert len(list(tmp_path.iterdir())) == 3  # what the kill left behind is gone


def test_unfitting_or_damaged_checkpoints_are_named(tmp_path):
    save_checkpoint(tmp_path, *trained(1.0, 1))
    with pytest.raises(ValueError, match=r"weights-00000001\.safetensors"):
        load_checkpoint(tmp_path, nn.Linear(4, 2))
    (tmp_path / "optimizer-00000001.pt").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"optimizer-00000001\.pt"):
        load_checkpoint(tmp_path, nn.Linear(3, 2))


def test_run_directory_rules(tmp_path):
    out = tmp_path / "a" / "run"
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        open_run(out, resume=True)
    open_run(out, resume=False)
    assert out.is_dir()
    with pytest.raises(FileNotFoundError):
        open_run(out, resume=True)  # empty
    (out / "config.yaml").write_text("")
    open_run(out, resume=False, allowed=("config.yaml",))
    with pytest.raises(FileExistsError, match=r"config\.yaml"):
        open_run(out, resume=False)
    open_run(out, resume=True)
    with pytest.raises(FileExistsError, match="is a file"):
        open_run(out / "config.yaml", resume=False)


BOUND: Bound = {"settings": {"optim.lr": 0.1}, "classes": ["a", "b"], "templates": ["{}"], "records": ("12", 4)}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"classes": ["b", "a"]}, "the same class entries in another order: class 0 was 'a', now 'b'"),
        ({"classes": ["a", "c"]}, "class 1 was 'b', now 'c'"),
        ({"classes": ["a", "b", "c"]}, "2 class entries then, 3 now"),
        ({"templates": ["a {}"]}, "template 0 was '{}', now 'a {}'"),
        ({"records": ("13", 4)}, "the training list differs: other files, labels or order"),
        ({"records": ("13", 5)}, "the training list differs: 4 samples then, 5 now"),
        ({"settings": {"optim.lr": 0.2, "new.key": 1}}, "optim.lr was 0.1, now 0.2"),
    ],
)
def test_a_resumed_run_keeps_its_names_templates_list_and_settings(tmp_path, change, line):
    assert differences(BOUND, {**BOUND, **change}) == [line]
    net, training, _ = trained(1.0, 3)
    save_checkpoint(tmp_path / "last", net, training, Progress(10, "abc", 3, bound=BOUND))
    with pytest.raises(ValueError, match="belongs to another configuration: ") as caught:
        resumed(tmp_path, nn.Linear(5, 7), Progress(10, "other", bound={**BOUND, **change}))
    assert line in str(caught.value)
    assert resumed(tmp_path, net, Progress(10, "of a version with more settings", bound=BOUND))[0].step == 3


def test_a_run_that_did_not_record_its_names_goes_on_and_says_so(tmp_path):
    net, training, progress = trained(1.0, 3)
    save_checkpoint(tmp_path / "last", net, training, progress)
    state = json.loads((tmp_path / "last" / "state.json").read_text())
    del state["progress"]["bound"]
    (tmp_path / "last" / "state.json").write_text(json.dumps(state))
    with pytest.warns(UserWarning, match="did not record class names, templates and training list"):
        again = resumed(tmp_path, net, Progress(10, "abc", bound=BOUND))[0]
    assert (again.step, again.bound) == (3, BOUND)
    with pytest.raises(ValueError, match=r"another configuration than its config.yaml.*put the file back"):
        resumed(tmp_path, net, Progress(10, "abd", bound=BOUND))


def test_a_refused_start_touches_nothing(tmp_path):
    """Earlier versions removed hidden files with a name like theirs before they looked whose folder it is."""
    own = [".mote-notes", ".a.tmp", ".mote-12-0123abcd.txt", "thesis.txt"]
    for name in own:
        (tmp_path / name).touch()
    (tmp_path / "last").mkdir()
    (tmp_path / "last/.mote-12-0123abcd").touch()
    with pytest.raises(FileExistsError, match=r"already holds \.a\.tmp, \.mote-notes, thesis\.txt"):
        open_run(tmp_path, resume=False)
    assert {path.name for path in tmp_path.iterdir()} == {*own, "last"} and (
        tmp_path / "last/.mote-12-0123abcd"
    ).exists()
