"""The eight stages of the graph, one module each. How they are run, stored and recorded is in `fc_assets.engine`."""
