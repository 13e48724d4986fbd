"""Weight initialisation of DetNAS's ImageNet training (public reference code; the paper does not state it)."""

from torch import nn

NORM_BIAS = 0.0001


def init_detnas(backbone: nn.Module) -> None:
    """Stem conv normal(0, 0.01), other convs normal(0, 1 / weight.shape[1]), BN weight 1 and bias 0.0001."""
    stem_modules = set(backbone.get_submodule("stem").modules())
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            std = 0.01 if module in stem_modules else 1.0 / module.weight.shape[1]
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, NORM_BIAS)
            module.reset_running_stats()
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)
