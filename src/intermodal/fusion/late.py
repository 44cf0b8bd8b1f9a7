"""Late fusion: decisions, each from one field alone, to one decision.

    average   the mean of what the fields hold likely (linear opinion pool)
    weighted  the same with a learned weight for each field
    product   what all hold likely at once (product of experts), with a learned expert that is always there
    stacked   a learned linear map of all decisions and of which are there

Sources: Genest and Zidek 1986, "Combining probability distributions" (pools); Hinton 2002, "Training products of
experts by minimizing contrastive divergence", with absent experts left out of the product and one that is always there
as in Wu and Goodman 2018, arXiv 1802.05335, eq. 4; Wolpert 1992, "Stacked generalization". An ``Encoded`` here holds
logits: its vector is a decision. Left out: stacking on held-out decisions; the map is trained with the rest.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.errors import UnknownName
from intermodal.fusion import KINDS, as_encoded, cleared, vectors
from intermodal.types import Encoded

RULES = ("average", "product", "stacked", "weighted")


class Late(nn.Module):
    """Joins the logits of several fields by one of ``RULES``."""

    def __init__(self, rule: str, fields: Sequence[str], outputs: int, kind: str = "classes") -> None:
        """Builds it.

        Args:
            rule: one of ``RULES``.
            fields: names.
            outputs: logits of each decision: classes, labels, or numbers.
            kind: one of ``KINDS``.

        Raises:
            UnknownName: there is no such rule or kind.
        """
        super().__init__()
        for what, name, known in (("rule of late fusion", rule, RULES), ("kind of decision", kind, KINDS)):
            if name not in known:
                raise UnknownName(what, name, known)
        self.rule, self.fields, self.kind, self.width = rule, tuple(fields), kind, outputs
        count = len(self.fields)
        if rule == "weighted":
            self.weights = nn.Parameter(torch.zeros(count))
        if rule == "product":
            self.always = nn.Parameter(torch.zeros(outputs))
            if kind == "number":  # the precision of each field's bell curve, and of the one that is always there
                self.log_precisions = nn.Parameter(torch.cat((torch.zeros(count), torch.full((1,), -4.0))))
        if rule == "stacked":
            self.map = nn.Linear(count * (outputs + 1), outputs)
            with torch.no_grad():  # begins as the product, so that it starts with all fields in use
                eye = torch.eye(outputs) if kind != "number" else torch.eye(outputs) / count
                self.map.weight.copy_(torch.cat((eye.repeat(1, count), torch.zeros(outputs, count)), dim=1))
                self.map.bias.zero_()

    def forward(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Returns the logits of the joint decision as one token per row; without any field, of knowing nothing."""
        each, present = vectors({name: cleared(encoded[name]) for name in self.fields})
        if self.kind == "classes":
            each = each.log_softmax(dim=-1)
        if self.rule == "stacked":
            known = each.masked_fill(~present[..., None], 0.0)
            return as_encoded(self.map(torch.cat((known.flatten(1), present.to(known.dtype)), dim=1)))
        if self.rule == "product":
            return as_encoded(self._product(each, present))
        scores = self.weights.expand_as(present) if self.rule == "weighted" else torch.zeros_like(each[..., 0])
        shares = scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(dim=1) * present
        return as_encoded(self._pooled(each, shares) * present.any(dim=1, keepdim=True))

    def _product(self, each: Float[Tensor, "B M L"], present: Bool[Tensor, "B M"]) -> Float[Tensor, "B L"]:
        """Returns the product of the experts that are there and the one that always is."""
        if self.kind == "number":
            precisions = self.log_precisions.exp()
            weights = present * precisions[:-1]
            total = weights.sum(dim=1, keepdim=True) + precisions[-1]
            return ((each * weights[..., None]).sum(dim=1) + self.always * precisions[-1]) / total
        logits: Tensor = (each * present[..., None]).sum(dim=1) + self.always
        return logits.log_softmax(dim=-1) if self.kind == "classes" else logits

    def _pooled(self, each: Float[Tensor, "B M L"], shares: Float[Tensor, "B M"]) -> Float[Tensor, "B L"]:
        """Returns the mean decision with these shares."""
        if self.kind == "number":
            return (each * shares[..., None]).sum(dim=1)
        logs = shares.clamp(min=torch.finfo(shares.dtype).tiny).log()[..., None]
        if self.kind == "classes":
            return (each + logs).logsumexp(dim=1)
        yes, no = (F.logsigmoid(sign * each) for sign in (1, -1))
        return (yes + logs).logsumexp(dim=1) - (no + logs).logsumexp(dim=1)
