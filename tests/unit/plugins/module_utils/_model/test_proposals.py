# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proposals; what libreswan's own algparse says of them was the model."""

from __future__ import annotations

import pytest
from ansible_collections.underlay.ipsec.plugins.module_utils._model.proposals import proposal_faults

IKE, ESP = False, True


@pytest.mark.parametrize(
    ("text", "esp"),
    [
        ("aes_gcm256-sha2_384-dh20", IKE),
        ("aes_gcm256", IKE),
        ("aes_gcm256-sha2;dh20", IKE),
        ("aes_gcm-256-sha2", IKE),
        ("aes_gcm256+aes_gcm128-sha2_512+sha2_256-ecp384", IKE),
        ("aes256-sha2_256+sha2_512-dh19+dh20,chacha20_poly1305-sha2_256-dh31", IKE),
        ("AES256-SHA256-MODP2048", IKE),
        ("aes_gcm256", ESP),
        ("aes_gcm_16_256", ESP),
        ("aes_gcm_c-256-null", ESP),
        ("aes_gcm256-null-dh20", ESP),
        ("aes_ccm256", ESP),
        ("chacha20_poly1305", ESP),
        ("aes256-sha2_512-dh14", ESP),
        ("aes256", ESP),
        ("camellia256-sha2_256", ESP),
        ("aes_ctr256-aes_xcbc, aes_gcm128", ESP),
        ("aes256-aes_cmac", ESP),
    ],
)
def test_accepts(text: str, esp: bool) -> None:
    assert proposal_faults(text, esp=esp) == []


@pytest.mark.parametrize(
    ("text", "esp", "said"),
    [
        ("", IKE, "there is an empty alternative"),
        ("aes256,", ESP, "there is an empty alternative"),
        (
            "aes_gcn256",
            ESP,
            "'aes_gcn256' is not an encryption algorithm that libreswan knows, did you mean 'aes_gcm'",
        ),
        ("aes_gcm512", ESP, "'aes_gcm512' has a key length that does not exist, it is one of 128, 192, 256"),
        ("chacha20_poly1305_256", ESP, "'chacha20_poly1305_256' is not an encryption algorithm"),
        ("aes_ccm256", IKE, "'aes_ccm256' is not an encryption algorithm"),
        ("3des-sha2", ESP, "'3des' is too weak to use: its 64-bit blocks are too small"),
        ("null-sha2", ESP, "'null' does not encrypt"),
        ("aes_gmac", ESP, "'aes_gmac' is too weak to use: it does not encrypt"),
        ("aes256-md5", ESP, "'md5' is too weak to use: MD5 is broken"),
        ("aes256-sha1-dh14", IKE, "'sha1' is too weak to use: SHA-1 is broken"),
        ("aes256-sha2-dh2", IKE, "'dh2' is too weak to use: its Diffie-Hellman group is too small"),
        ("aes256-sha2;modp1536", IKE, "'modp1536' is too weak to use"),
        ("aes256-sha2-none", IKE, "'none' is not a Diffie-Hellman group"),
        ("aes_gcm256-dh20", IKE, "'dh20' is not a pseudo-random function"),
        ("aes256-sha3", ESP, "'sha3' is not an integrity algorithm"),
        (
            "aes_gcm256-sha2",
            ESP,
            "'aes_gcm256-sha2' has the integrity algorithm 'sha2', but 'aes_gcm256' brings its own",
        ),
        ("aes256+aes_gcm256-sha2", IKE, "mixes algorithms"),
        ("aes256-sha2-sha2-dh20", IKE, "'aes256-sha2-sha2-dh20' has more than three parts"),
        (
            "aes256-sha2;dh14,aes_gcm256",
            ESP,
            "either all alternatives name a Diffie-Hellman group, or none does",
        ),
    ],
)
def test_refuses(text: str, esp: bool, said: str) -> None:
    faults = proposal_faults(text, esp=esp)
    assert len(faults) == 1
    assert said in faults[0]
