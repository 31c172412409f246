"""Ways to choose among 40 experts: each gating, with and without what may come to it."""

from kernels.expert_ops import Routing

ROUTINGS = {
    "softmax": Routing("softmax", 8),
    "softmax, normalized": Routing("softmax", 8, normalize=True),
    "sigmoid": Routing("sigmoid", 5, normalize=True, scale=2.5),
    "softmax of the chosen": Routing("softmax_chosen", 4, scale=0.5),
    "groups": Routing("sigmoid", 6, n_group=4, n_group_used=2, normalize=True),
    "groups of one expert": Routing("softmax", 3, n_group=40, n_group_used=5),
    "every expert": Routing("softmax", 40),
}
