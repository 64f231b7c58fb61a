"""The archive in object storage: parts in a spool, shipped one by one."""
