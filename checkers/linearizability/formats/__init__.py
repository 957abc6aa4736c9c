"""Histories of any harness as operations: JSON lines, Jepsen's EDN, Porcupine's logs, the lab's own format 1."""
