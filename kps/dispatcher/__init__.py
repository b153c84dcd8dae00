"""The dispatcher process: finds work, routes it, claims it, hands it over."""
