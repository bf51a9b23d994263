"""The f-GAN step of `benchmarks.speed` as a PyTorch user would write it, in an interpreter that has PyTorch.

Reads one JSON command a line and answers each with one JSON line:

    {"do": "about"}                              versions, threads, the compiler
    {"do": "make", "case": {…}}                  the number of parameters; `case` as benchmarks.speed sends it
    {"do": "run", "how": "eager", "steps": n}    seconds that n steps took

Alternating updates of two networks with Adam under the Jensen–Shannon bound ½{E_P[log 2 − s(−v)] + E_Q[log 2 − s(v)]},
s the softplus: the critic in one pass over real and generated samples, its weights left out of the generator's backward
pass. A penalty is ¼{E_P[(1 − D)²‖∇v‖²] + E_Q[D²‖∇v‖²]}, D = σ(v), by double backward.
"""

import json
import shutil
import sys
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn

DEVICE = torch.device("cuda" if len(sys.argv) > 1 and sys.argv[1] == "gpu" else "cpu")


def mlp(inputs, width, outputs):
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of images [n, c, h, w]."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def image_generator(latent, side, first, second):
    low = side // 4
    dense = [nn.Linear(latent, low * low * first), nn.LayerNorm(low * low * first), nn.ReLU()]
    up = [nn.Unflatten(1, (first, low, low)), nn.ConvTranspose2d(first, second, 4, 2, 1, bias=False)]
    last = [ChannelNorm(second), nn.ReLU(), nn.ConvTranspose2d(second, 1, 4, 2, 1)]
    return nn.Sequential(*dense, *up, *last, nn.Flatten(), nn.Tanh())


def image_critic(side, first, second):
    down = [nn.Conv2d(1, first, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(first, second, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(nn.Unflatten(1, (1, side, side)), *down, nn.Flatten(), nn.Linear((side // 4) ** 2 * second, 1))


class Training:
    """The two networks, their optimisers, and a source of batches."""

    def __init__(self, case):
        self.batch, self.latent, self.penalised = case["batch"], case["latent"], case["penalty"]
        features, side = case["features"], case["side"]
        if side:
            self.g = image_generator(self.latent, side, *features)
            self.c = image_critic(side, *features[::-1])
            self.rows = 2.0 * torch.rand(case["rows"], side * side, device=DEVICE) - 1.0
        else:
            self.g, self.c = mlp(self.latent, features[0], case["dim"]), mlp(case["dim"], features[0], 1)
            self.rows = torch.randn(case["rows"], case["dim"], device=DEVICE)
        self.g, self.c = self.g.to(DEVICE), self.c.to(DEVICE)
        self.narrow = case["precision"] == "bfloat16"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case["precision"] != "float32"
        adam = {"lr": 1e-3, "betas": (0.5, 0.9), "fused": True if "fused" in case["how"] else None}
        self.g_optimizer = torch.optim.Adam(self.g.parameters(), **adam)
        self.c_optimizer = torch.optim.Adam(self.c.parameters(), **adam)
        compiled = torch.compile if "compile" in case["how"] else lambda function: function
        self.critic_loss, self.generator_loss = compiled(self._critic_loss), compiled(self._generator_loss)

    def parameters(self):
        return sum(p.numel() for network in (self.g, self.c) for p in network.parameters())

    def noise(self):
        return torch.randn(self.batch, self.latent, device=DEVICE)

    def narrowed(self):
        return torch.autocast(DEVICE.type, torch.bfloat16) if self.narrow else nullcontext()

    def _critic_loss(self, x):
        v = self.c(x)[:, 0]
        p, q = v.chunk(2)
        loss = 0.5 * (F.softplus(-p).mean() + F.softplus(q).mean())
        if not self.penalised:
            return loss
        (gradient,) = torch.autograd.grad(v.sum(), x, create_graph=True)
        slope_p, slope_q = (gradient**2).sum(1).chunk(2)
        off_p, on_q = torch.sigmoid(-p) ** 2 * slope_p, torch.sigmoid(q) ** 2 * slope_q
        return loss + 0.25 * (off_p.mean() + on_q.mean())

    def _generator_loss(self, z):
        return -0.5 * F.softplus(self.c(self.g(z))[:, 0]).mean()

    def step(self):
        real = self.rows[torch.randint(len(self.rows), (self.batch,), device=DEVICE)]
        with self.narrowed():
            with torch.no_grad():
                fake = self.g(self.noise())
            x = torch.cat([real, fake.float()]).requires_grad_(self.penalised)
            loss = self.critic_loss(x)
        self.c_optimizer.zero_grad()
        loss.backward()
        self.c_optimizer.step()
        self.c.requires_grad_(False)
        with self.narrowed():
            loss = self.generator_loss(self.noise())
        self.g_optimizer.zero_grad()
        loss.backward()
        self.g_optimizer.step()
        self.c.requires_grad_(True)

    def run(self, steps):
        begun = time.perf_counter()
        for _ in range(steps):
            self.step()
        _wait()
        return time.perf_counter() - begun


def _wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def about():
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "compiler": compiler}


def answer(command, made):
    if command["do"] == "about":
        return about()
    if command["do"] == "make":
        how = command["case"]["how"]
        made[how] = Training(command["case"])
        made[how].run(3)
        return {"parameters": made[how].parameters()}
    return {"seconds": made[command["how"]].run(command["steps"])}


def main():
    made: dict = {}
    replies = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line), made)
        except Exception as error:  # the other process records it and goes on
            words = str(error).strip() or repr(error)
            reply = {"reason": f"{type(error).__name__}: {' '.join(words.split())[:300]}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
