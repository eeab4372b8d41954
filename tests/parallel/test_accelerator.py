import pytest
import torch

from mote.parallel.accelerator import make_accelerator, mean_over_processes, on_main


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on a GPU")
def test_accelerator_mistakes():
    with pytest.raises(ValueError, match="needs a GPU"):
        make_accelerator("fp16")
    with pytest.raises(ValueError, match="fp8"):
        make_accelerator("fp8")
    with pytest.raises(ValueError, match="nosuch"):
        make_accelerator(trackers=["nosuch"])


def test_on_main_gives_the_result_or_the_error():
    accelerator = make_accelerator(cpu=True)
    assert on_main(accelerator, lambda: 7) == 7
    with pytest.raises(FileExistsError, match="here"):
        on_main(accelerator, lambda: (_ for _ in ()).throw(FileExistsError("here")))


def test_the_mean_over_one_process_is_the_value_in_float32():
    values = torch.tensor([0.1, 3.0], dtype=torch.float64, requires_grad=True)
    mean = mean_over_processes(make_accelerator(cpu=True), values)
    assert torch.equal(mean, values.detach().float()) and not mean.requires_grad
