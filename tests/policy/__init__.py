# SPDX-License-Identifier: GPL-3.0-or-later
"""The derived rules against packets: a prober, and a reference that shares no code with the core."""
