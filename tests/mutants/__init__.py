"""Negative controls: bugs that a named test must see. scripts/mutants plants them one by one."""

from tests.mutants.bytes_and_files import BYTES_AND_FILES
from tests.mutants.leases_and_watches import LEASES_AND_WATCHES
from tests.mutants.memory_and_logs import MEMORY_AND_LOGS
from tests.mutants.mutant import ROOT, Mutant, misfit
from tests.mutants.rules_and_reads import RULES_AND_READS

__all__ = ["MUTANTS", "ROOT", "Mutant", "misfit"]

MUTANTS = [*RULES_AND_READS, *BYTES_AND_FILES, *MEMORY_AND_LOGS, *LEASES_AND_WATCHES]
