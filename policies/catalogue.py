"""All policies."""

from policies import containers, identity, infrastructure
from policies.model import Policy

POLICIES: tuple[Policy, ...] = (*containers.POLICIES, *infrastructure.POLICIES, *identity.POLICIES)

BY_ID = {policy.id: policy for policy in POLICIES}
