"""The last block of a CLIP tower computes what is read of it: the class token.

A ViT of CLIP hands out its class token only, so that of its last block the keys and values of all tokens are needed,
but queries, output projection and feed-forward network of one. With L blocks of ratio 4 and many tokens that saves
about 10 / (12 L) of the tower's products, forward and backward; the numbers are the same up to rounding.
"""

from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from mote.models.attention import NarrowAttention


class ClassTokenBlock(ResidualAttentionBlock):
    """open_clip's block, with its first token as the only query."""

    def forward(
        self,
        q_x: Float[Tensor, "N L D"],
        k_x: None = None,
        v_x: None = None,
        attn_mask: None = None,
    ) -> Float[Tensor, "N 1 D"]:
        """The first token after the block."""
        tokens = self.ln_1(q_x)
        if isinstance(self.attn, NarrowAttention):  # self-attention only
            attended = self.attn(tokens)[0][:, :1]
        else:
            attended = self.attn(tokens[:, :1], tokens, tokens, need_weights=False)[0]
        x = q_x[:, :1] + self.ls_1(attended)
        return x + self.ls_2(self.mlp(self.ln_2(x)))


def only_class_token(visual: nn.Module) -> None:
    """Let the last block of an open_clip ViT compute the class token only, in place; other towers stay as they are."""
    block = _last_block(visual)
    if type(block) is ResidualAttentionBlock:
        block.__class__ = ClassTokenBlock


def all_tokens(visual: nn.Module) -> None:
    """Undo `only_class_token`, from now on: for readers of patch tokens."""
    block = _last_block(visual)
    if type(block) is ClassTokenBlock:
        block.__class__ = ResidualAttentionBlock  # pyright: ignore[reportAttributeAccessIssue]


def _last_block(visual: nn.Module) -> nn.Module | None:
    """The last block of an open_clip ViT that hands out its class token and nothing else."""
    towers = [module for module in visual.modules() if isinstance(module, VisionTransformer)]  # adapters wrap it
    if len(towers) != 1 or towers[0].pool_type != "tok" or towers[0].attn_pool is not None or towers[0].output_tokens:
        return None
    return towers[0].transformer.resblocks[-1]
