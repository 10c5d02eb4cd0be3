"""One HTML page about finished runs: `fedhpro report`. docs/report.md says what each of its pictures shows."""
