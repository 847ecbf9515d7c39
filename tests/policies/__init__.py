"""Tests of the policy pack: pass, fail and unknown values."""
