# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all modules take that change libreswan's NSS database."""

from __future__ import annotations


class ModuleDocFragment:
    """A module extends this and adds what else it takes."""

    DOCUMENTATION = r"""
options:
  ca_nickname:
    description: The nickname in NSS of the CA certificate.
    type: str
    default: underlay-ca
  nss_dir:
    description: The directory of the NSS database. By default that of the installed libreswan.
    type: path
  metrics_dir:
    description:
      - The directory that the textfile collector of Prometheus's node exporter reads, where C(underlay_ipsec.prom) says when
        certificates and revocation lists expire. Nothing is written where it does not exist.
    type: path
"""
