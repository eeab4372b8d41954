"""Videos named on a Ray cluster of two nodes: the scores of one process, also where a node is lost in mid-work."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from mote.datasets.decoding.encode import write_video
from mote.datasets.synthetic.clips import render_clip
from mote.inference.asked import Views
from mote.inference.loading import load_video

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray warns of its own settings
ray = pytest.importorskip("ray", reason="Ray is not installed")
NAMES = ["red star", "blue arrow", "green ball"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    found = [folder / f"{number}.mp4" for number in range(150)]
    for number, file in enumerate(found):
        write_video(file, render_clip(np.random.default_rng(number % 10), NAMES[number % 3], "growing", 6))
    found[7].write_bytes(b"no video")
    return found


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    second = found.add_node(num_cpus=2)
    found.wait_for_nodes()
    ray.init(address=found.address, log_to_driver=False, logging_level=50)
    yield found, second
    ray.shutdown()
    found.shutdown()


@pytest.mark.parametrize("lost", [False, True])
def test_two_nodes_name_as_one_process_does(files, cluster, lost):
    from mote.prediction.ray_engine import name_with_ray

    nodes, second = cluster
    model = load_video("tiny", device="cpu")
    expected = [(file, str(one) if isinstance(one, Exception) else one) for file, one in model.outcomes(files, NAMES)]
    found = []
    for file, outcome in name_with_ray(model, files, NAMES, Views(), timeout=60.0):
        found.append((file, str(outcome) if isinstance(outcome, Exception) else outcome))
        if lost and len(found) == 8:
            nodes.remove_node(second, allow_graceful=False)
            time.sleep(1)
    assert found == expected
    assert [file for file, outcome in found if isinstance(outcome, str)] == [files[7]]
