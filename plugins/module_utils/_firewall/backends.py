# Copyright: (c) 2026, the underlay.ipsec contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading the rules with each tool, so that they are there after a boot, and taking them away.

Each backend keeps what it needs to leave the firewall as it was: plain data, which the caller stores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.underlay.ipsec.plugins.module_utils._errors import IpsecError
from ansible_collections.underlay.ipsec.plugins.module_utils._files import write_atomically
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall import detect, firewalld, iptables, nft
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.nft_service import (
    FILES as SERVICE_FILES,
)
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.nft_service import service_files
from ansible_collections.underlay.ipsec.plugins.module_utils._firewall.rules import Rules
from ansible_collections.underlay.ipsec.plugins.module_utils._run import Runner

DIRECTORY = "etc/underlay-ipsec"
UNIT = "underlay-ipsec-firewall.service"
_UNIT_PATH = f"etc/systemd/system/{UNIT}"
_TABLE_FILE = f"{DIRECTORY}/firewall.nft"
_OPEN_FILE = f"{DIRECTORY}/firewall-open.nft"
_RESTORE_FILES = {4: f"{DIRECTORY}/firewall.rules.v4", 6: f"{DIRECTORY}/firewall.rules.v6"}
_NFT = "/usr/sbin/nft"
_WAIT_SECONDS = "30"
"""How long iptables waits for somebody else's change."""

_SCOPES = {"runtime": False, "permanent": True}

Kept = dict[str, Any]


class Backend(Protocol):
    """One tool on one host."""

    def remember(self, kept: Kept, rules: Rules) -> Kept:
        """Return *kept* with what else is needed to undo that *rules* are loaded. Raises IpsecError."""

    def text(self, rules: Rules) -> str:
        """Return *rules* in the tool's language, to be read by people."""

    def load(self, rules: Rules, kept: Kept) -> None:
        """Put *rules* in force, now and after a boot, in the place of those of ours that are. Raises IpsecError."""

    def remove(self, kept: Kept) -> None:
        """Take away all that is ours. Raises IpsecError."""

    def live(self, kept: Kept) -> str:
        """Return what there is of ours, to see whether anybody changed it. Raises IpsecError."""


def backend(
    name: str, run: Runner, root: Path, *, chain: str = "INPUT", interfaces: Sequence[str] = ()
) -> Backend:
    """Return the backend *name*, which is firewalld, nftables or iptables."""
    if name == detect.FIREWALLD:
        return Firewalld(run, root, interfaces)
    return Nftables(run, root) if name == detect.NFTABLES else Iptables(run, root, chain)


class Nftables:
    """A table of our own, and rules in front of those of foreign chains."""

    def __init__(self, run: Runner, root: Path) -> None:
        self._run = run
        self._root = root

    def remember(self, kept: Kept, rules: Rules) -> Kept:
        """Return nothing: all that is ours can be told from the rest."""
        return {}

    def text(self, rules: Rules) -> str:
        """Return the table, and what foreign chains get."""
        return nft.render(rules) + nft.insertions(rules, self._chains())

    def load(self, rules: Rules, kept: Kept) -> None:
        """Replace the table and the rules in foreign chains in one transaction."""
        chains = self._chains()
        table, inserted = nft.render(rules), nft.insertions(rules, chains)
        nft.load(self._run, nft.deletions(chains) + table + inserted)
        _write(self._root / _OPEN_FILE, inserted)
        for path, text in service_files(self._run, self._root, _TABLE_FILE, _OPEN_FILE).items():
            _write(self._root / path, text)
        _start_nft(self._run, self._root, table)

    def remove(self, kept: Kept) -> None:
        """Remove the table, the rules and the files."""
        if _installed(self._run, "nft"):
            nft.load(self._run, nft.deletions(self._chains()) + nft.delete_table())
        _delete(self._root, _OPEN_FILE, *SERVICE_FILES)
        _stop_unit(self._run, self._root, _TABLE_FILE)

    def live(self, kept: Kept) -> str:
        """Return the table, the rules in foreign chains, and what loads them at boot."""
        return nft.live(self._run) + _persistent(self._run, self._root)

    def _chains(self) -> list[nft.Chain]:
        ruleset = nft.list_ruleset(self._run)
        return nft.foreign_chains(ruleset, iptables=detect.over_nftables(self._run))


class Firewalld:
    """Rich rules for what is let in, a table of nftables for what is dropped."""

    def __init__(self, run: Runner, root: Path, interfaces: Sequence[str]) -> None:
        self._run = run
        self._root = root
        self._interfaces = interfaces
        self._zones = firewalld.Zones(run)

    def remember(self, kept: Kept, rules: Rules) -> Kept:
        """Return for each zone the operator's file, and which rules are added to those that it has."""
        files = dict(kept.get("files", {}))
        added = {zone: dict(scopes) for zone, scopes in kept.get("added", {}).items()}
        wanted = firewalld.rich_rules(rules)
        for zone in self._zones.of(self._interfaces, rules):
            files.setdefault(zone, firewalld.zone_file(self._root, zone))
            scopes = added.setdefault(zone, {})
            for scope, permanent in _SCOPES.items():
                ours = scopes.get(scope, [])
                present = self._zones.rules(zone, permanent=permanent)
                # What the operator has is theirs, and stays when ours go.
                scopes[scope] = [rule for rule in ours if rule in present] + [
                    rule for rule in wanted if rule not in present
                ]
        return {"files": files, "added": added}

    def text(self, rules: Rules) -> str:
        """Return the rich rules and the table."""
        return "".join(f"{rule}\n" for rule in firewalld.rich_rules(rules)) + nft.render(_closed(rules))

    def load(self, rules: Rules, kept: Kept) -> None:
        """Replace the table; add the rules that the zones do not have, remove those that are not wanted any more."""
        self._load_table(_closed(rules))
        zones = self._zones.of(self._interfaces, rules)
        for zone, added in kept["added"].items():
            self._load_zone(zone, firewalld.rich_rules(rules) if zone in zones else [], added)

    def _load_table(self, rules: Rules) -> None:
        if rules:
            table = nft.render(rules)
            nft.load(self._run, table)
            _start_nft(self._run, self._root, table)
        else:
            self._remove_table()

    def _remove_table(self) -> None:
        # It may be there without its file; where nftables does not work, it is not.
        self._run(["nft", "-f", "-"], stdin=nft.delete_table(), check=False)
        if any((self._root / path).exists() for path in (_UNIT_PATH, _TABLE_FILE)):
            _stop_unit(self._run, self._root, _TABLE_FILE)

    def _load_zone(self, zone: str, wanted: Sequence[str], added: Mapping[str, Sequence[str]]) -> None:
        for scope, permanent in _SCOPES.items():
            present = self._zones.rules(zone, permanent=permanent)
            missing = [rule for rule in wanted if rule not in present]
            spare = [rule for rule in added[scope] if rule not in wanted and rule in present]
            self._zones.change(zone, add=missing, remove=spare, permanent=permanent)

    def remove(self, kept: Kept) -> None:
        """Remove what was added, and give the zones' files back."""
        self._remove_table()
        if not _installed(self._run, "firewall-cmd"):
            return
        self._zones.offline = not firewalld.running(self._run)
        for zone, added in kept["added"].items():
            self._load_zone(zone, [], added)
            firewalld.put_back(self._root, zone, kept["files"].get(zone))

    def live(self, kept: Kept) -> str:
        """Return the table, and what was added to which zones."""
        lines = [f"zones {self._zones.of(self._interfaces, Rules())}"]
        for zone, added in sorted(kept["added"].items()):
            for scope, permanent in _SCOPES.items():
                present = self._zones.rules(zone, permanent=permanent)
                lines += [f"{zone} {scope} {rule}" for rule in added[scope] if rule in present]
        if (self._root / _TABLE_FILE).exists():
            lines.append(nft.live(self._run))
        return "\n".join(lines) + _persistent(self._run, self._root)


def _closed(rules: Rules) -> Rules:
    return Rules(closed=rules.closed, clamp=rules.clamp)


class Iptables:
    """Chains of our own, in the distribution's files of rules if there are some."""

    _TOOLS: Mapping[int, str] = {4: "iptables", 6: "ip6tables"}
    # Debian's, and those of EL.
    _FILES = (
        "etc/iptables/rules.v4",
        "etc/iptables/rules.v6",
        "etc/sysconfig/iptables",
        "etc/sysconfig/ip6tables",
    )

    def __init__(self, run: Runner, root: Path, chain: str) -> None:
        self._run = run
        self._root = root
        self._chain = chain

    def remember(self, kept: Kept, rules: Rules) -> Kept:
        """Return the tables that there were, and which files of rules there were not."""
        return kept or {
            "tables": {str(family): _table_names(self._save(family)) for family in self._TOOLS},
            "missing": [path for path in self._FILES if not (self._root / path).exists()],
        }

    def text(self, rules: Rules) -> str:
        """Return the chains of both families."""
        return "".join(
            f"# {tool}\n" + iptables.restore(iptables.tables(rules, family, self._chain), "")
            for family, tool in self._TOOLS.items()
        )

    def load(self, rules: Rules, kept: Kept) -> None:
        """Replace our chains, one transaction for each table, after all of it has been tried."""
        wanted = {
            family: iptables.tables(rules, family, self._parent(family, bool(rules.open)))
            for family in self._TOOLS
        }
        files = self._files()
        texts = {path: self._merged(path, wanted[family]) for family, path in files.items()}
        self._restore(wanted)
        for path, text in texts.items():
            self._write(path, text, path in kept["missing"])
        starts = []
        for family, tool in self._TOOLS.items():
            if family not in files:
                path = _RESTORE_FILES[family]
                _write(self._root / path, iptables.restore(wanted[family], ""))
                starts.append(f"/usr/sbin/{tool}-restore --noflush --wait {_WAIT_SECONDS} /{path}")
        if starts:
            _start_unit(self._run, self._root, starts)
        elif (self._root / _UNIT_PATH).exists():
            # The distribution loads rules by now.
            _stop_unit(self._run, self._root, *_RESTORE_FILES.values())

    def remove(self, kept: Kept) -> None:
        """Remove our chains, and the tables that would not be there without them."""
        if _installed(self._run, "iptables"):
            self._restore({4: {}, 6: {}})
        for path in self._FILES:
            self._write(path, iptables.without(self._read(path)), path in kept["missing"])
        for family in self._TOOLS if _installed(self._run, "iptables") else ():
            for table in iptables.emptied(self._save(family), kept["tables"][str(family)]):
                self._unload(family, table)
        _stop_unit(self._run, self._root, *_RESTORE_FILES.values())

    def live(self, kept: Kept) -> str:
        """Return our chains of both families, and what loads them at boot."""
        texts = [self._save(family) for family in self._TOOLS]
        texts += [self._read(path) for path in self._FILES]
        texts += [f"{iptables.PREFIX}{path}" for path in self._files().values()]
        return "\n".join(map(iptables.ours, texts)) + _persistent(self._run, self._root)

    def _merged(self, path: str, wanted: iptables.Tables) -> str:
        try:
            return iptables.merged(self._read(path), wanted)
        except IpsecError as error:
            raise IpsecError(f"/{path}: {error}. Correct the file. Nothing changed") from None

    def _parent(self, family: int, needed: bool) -> str:
        """Return the chain for what is let in: the one that is asked for, or INPUT where only IPv4 has that."""
        chain = self._chain
        if chain == "INPUT" or chain in iptables.chains_of(self._save(family), "filter"):
            return chain
        if family == 4 and needed:
            raise IpsecError(
                f"ipsec_firewall_chain: iptables has no chain {chain} in its table filter. Name one that it has, or INPUT"
            )
        return "INPUT"

    def _save(self, family: int) -> str:
        return self._run([f"{self._TOOLS[family]}-save"]).stdout

    def _restore(self, wanted: Mapping[int, iptables.Tables]) -> None:
        inputs = {family: iptables.restore(wanted[family], self._save(family)) for family in self._TOOLS}
        for extra in (["--test"], []):
            for family, text in inputs.items():
                if not text.strip():
                    continue
                command = [f"{self._TOOLS[family]}-restore", "--noflush", "--wait", _WAIT_SECONDS, *extra]
                said = self._run(command, stdin=text, check=False)
                if said.rc:
                    refused = f"{self._TOOLS[family]} refused the rules: {said.stderr.strip()}"
                    raise IpsecError(refused + (". Nothing changed" if extra else ""))

    def _files(self) -> dict[int, str]:
        """Return the files from which the distribution loads rules at boot, by family; without those that it does not."""
        if self._enabled("netfilter-persistent"):
            return {4: "etc/iptables/rules.v4", 6: "etc/iptables/rules.v6"}
        return {
            family: f"etc/sysconfig/{tool}" for family, tool in self._TOOLS.items() if self._enabled(tool)
        }

    def _enabled(self, service: str) -> bool:
        return self._run(["systemctl", "is-enabled", "--quiet", service], check=False).rc == 0

    def _read(self, path: str) -> str:
        try:
            return (self._root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _write(self, path: str, text: str, made: bool) -> None:
        """Write a file of rules; one that we made goes when there is nothing in it."""
        target = self._root / path
        if made and not text.strip():
            target.unlink(missing_ok=True)
        elif text != self._read(path):
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o640
            target.parent.mkdir(exist_ok=True)
            write_atomically(str(target), text, mode=mode)

    def _unload(self, family: int, table: str) -> None:
        """Remove a table that does nothing. It does no harm if this fails."""
        if detect.over_nftables(self._run):
            self._run(["nft", "delete", "table", "ip" if family == 4 else "ip6", table], check=False)
        else:
            self._run(["modprobe", "-r", f"{'ip' if family == 4 else 'ip6'}table_{table}"], check=False)


def _installed(run: Runner, tool: str) -> bool:
    return run([tool, "-V"], check=False).rc != 127


def _table_names(saved: str) -> list[str]:
    return [line[1:] for line in saved.splitlines() if line.startswith("*")]


def _start_nft(run: Runner, root: Path, table: str) -> None:
    _write(root / _TABLE_FILE, table)
    _start_unit(run, root, [f"{_NFT} -f /{_TABLE_FILE}"])


def _start_unit(run: Runner, root: Path, starts: Sequence[str]) -> None:
    """Have *starts* run at boot, before there is a network."""
    text = "\n".join(
        [
            "[Unit]",
            "Description=Firewall rules of underlay.ipsec",
            "DefaultDependencies=no",
            "Wants=network-pre.target",
            "Before=network-pre.target shutdown.target",
            "Conflicts=shutdown.target",
            "After=local-fs.target systemd-modules-load.service nftables.service netfilter-persistent.service",
            "After=iptables.service ip6tables.service",
            "",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            *(f"ExecStart={start}" for start in starts),
            "",
            "[Install]",
            "WantedBy=sysinit.target",
            "",
        ]
    )
    _write(root / _UNIT_PATH, text)
    # Whether or not the files are new: an earlier run may have come this far.
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "enable", "--quiet", UNIT])


def _persistent(run: Runner, root: Path) -> str:
    """Return what there is of ours for the next boot."""
    enabled = run(["systemctl", "is-enabled", UNIT], check=False).stdout
    files = (
        root / path
        for path in (_UNIT_PATH, _TABLE_FILE, _OPEN_FILE, *SERVICE_FILES, *_RESTORE_FILES.values())
    )
    texts = (path.read_bytes() for path in files if path.exists())
    return f"\n{enabled.strip()} {hashlib.sha256(b''.join(texts)).hexdigest()}"


def _stop_unit(run: Runner, root: Path, *files: str) -> None:
    run(["systemctl", "disable", "--quiet", "--now", UNIT], check=False)
    _delete(root, _UNIT_PATH, *files)
    run(["systemctl", "daemon-reload"])


def _write(path: Path, text: str) -> None:
    """Write a file of ours."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(str(path), text, mode=0o644)


def _delete(root: Path, *paths: str) -> None:
    for path in map(root.joinpath, paths):
        path.unlink(missing_ok=True)
        if (
            path.parent.name == "nftables.service.d"
            and path.parent.is_dir()
            and not any(path.parent.iterdir())
        ):
            path.parent.rmdir()
