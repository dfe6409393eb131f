"""Writes the files of this folder. PyTorch 2.15 wrote those that are here: python3 make.py"""

from collections import OrderedDict
from pathlib import PurePosixPath

import torch

weight = torch.arange(6, dtype=torch.float32).reshape(2, 3) / 2
model = torch.nn.Module()
model.weight = torch.nn.Parameter(weight)
model.bias = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.25], dtype=torch.float16))
model.tied = model.weight
model.register_buffer("scale", torch.tensor(3.0, dtype=torch.bfloat16))
model.register_buffer("count", torch.tensor([7]))
model.register_buffer("mask", torch.tensor([True, False]))
state = OrderedDict(model.state_dict())
state["transposed"] = model.weight.detach().t()

torch.save(state, "state.bin")
torch.save(state, "state_old.bin", _use_new_zipfile_serialization=False)

# As Lightning does: the weights inside the state of a training.
other = torch.nn.Parameter(torch.zeros(2))
optimizer = torch.optim.AdamW([other], lr=1e-4)
other.grad = torch.ones(2)
optimizer.step()
hyper_parameters = {"lr": 1e-4, "betas": (0.9, 0.999), "out": PurePosixPath("runs"), "device": torch.device("cpu")}
checkpoint = {
    "epoch": 3,
    "global_step": 1234,
    "pytorch-lightning_version": "2.2.1",
    "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
    "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "dirpath": "runs"}},
    "optimizer_states": [optimizer.state_dict()],
    "lr_schedulers": [],
    "hparams_name": "kwargs",
    "hyper_parameters": hyper_parameters,
    "ema_state_dict": {"weight": torch.zeros(2, 3)},
    "state_dict": state,
}
torch.save(checkpoint, "lightning.ckpt")
