"""Ray: workers on the nodes of a cluster. Imported only where it is asked for."""
