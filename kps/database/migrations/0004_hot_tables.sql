-- Small tables whose rows change with every ticket or renewal. Each ANALYZE and VACUUM of a table makes every backend
-- plan its statements anew (5 ms of processor time in each printer process), and a minute of work would bring one. Pages
-- keep room for new versions of their rows, which are cleared away as they are read.

ALTER TABLE kps.printer SET (fillfactor = 50, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_threshold = 5000);
ALTER TABLE kps.chain SET (autovacuum_vacuum_threshold = 5000, autovacuum_analyze_threshold = 5000);
