-- One of everything. ROLE stands for a name that is this test's own.
CREATE ROLE "ROLE owner";
CREATE ROLE "ROLE reader";
COMMENT ON DATABASE "BASE" IS 'a museum: "quotes", ''more'', ünïcode';
ALTER DATABASE "BASE" SET search_path TO "$user", public, "odd ""schema""";
ALTER DATABASE "BASE" SET work_mem TO '5MB';
ALTER DATABASE "BASE" SET ops.museum TO 'it''s';
ALTER ROLE "ROLE reader" IN DATABASE "BASE" SET statement_timeout TO '7s';
ALTER DATABASE "BASE" CONNECTION LIMIT 77;
REVOKE CONNECT, TEMPORARY ON DATABASE "BASE" FROM PUBLIC;
GRANT CONNECT ON DATABASE "BASE" TO "ROLE reader" WITH GRANT OPTION;
SET search_path TO public;

CREATE EXTENSION hstore;
CREATE EXTENSION citext WITH SCHEMA public;
CREATE SCHEMA ext;
CREATE EXTENSION pg_trgm WITH SCHEMA ext;
CREATE SCHEMA "odd ""schema""" AUTHORIZATION "ROLE owner";
CREATE SCHEMA "select";
CREATE SCHEMA empty;
COMMENT ON SCHEMA empty IS NULL;
COMMENT ON SCHEMA "select" IS 'reserved';
GRANT USAGE ON SCHEMA "odd ""schema""" TO "ROLE reader";

CREATE TYPE mood AS ENUM ('sad', 'o''k', 'glad "really"');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE nest AS (p pair, q pair[], m mood);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN mail AS citext NOT NULL DEFAULT 'x@y' CONSTRAINT looks CHECK (VALUE ~ '@');
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION german FROM "C";
CREATE COLLATION icu (provider = icu, locale = 'de-u-co-phonebk', deterministic = false);

CREATE TABLE types (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 7) PRIMARY KEY,
    c_small smallint, c_int int, c_big bigint, c_num numeric, c_num2 numeric(40, 20),
    c_real real, c_double double precision, c_money money, c_bool bool,
    c_char char(5), c_varchar varchar(10), c_text text COLLATE german, c_name name, c_one "char",
    c_bytea bytea, c_date date, c_time time, c_timetz timetz, c_ts timestamp, c_tstz timestamptz(3),
    c_interval interval, c_uuid uuid, c_json json, c_jsonb jsonb, c_path jsonpath, c_xml xml,
    c_inet inet, c_cidr cidr, c_mac macaddr, c_mac8 macaddr8, c_bit bit(5), c_varbit varbit,
    c_point point, c_line line, c_lseg lseg, c_box box, c_gpath path, c_polygon polygon, c_circle circle,
    c_tsv tsvector, c_tsq tsquery, c_lsn pg_lsn, c_snap pg_snapshot, c_oid oid, c_class regclass, c_type regtype,
    c_ints int[], c_text2 text[][], c_mood mood, c_moods mood[], c_pair pair, c_nest nest, c_pairs pair[],
    c_pos positive, c_mail mail, c_span span, c_i4 int4range, c_ts_range tstzrange, c_multi int4multirange,
    c_hstore hstore, c_citext citext,
    c_gen int GENERATED ALWAYS AS (c_int * 2) STORED,
    c_default text DEFAULT 'de''fault' || 1
);
COMMENT ON COLUMN types.c_gen IS E'made\nof \\ c_int';
INSERT INTO types (c_mail) VALUES (DEFAULT);
INSERT INTO types (c_small, c_int, c_big, c_num, c_num2, c_real, c_double, c_money, c_bool, c_char,
    c_varchar, c_text, c_name, c_one, c_bytea, c_date, c_time, c_timetz, c_ts, c_tstz, c_interval,
    c_uuid, c_json, c_jsonb, c_path, c_xml, c_inet, c_cidr, c_mac, c_mac8, c_bit, c_varbit,
    c_point, c_line, c_lseg, c_box, c_gpath, c_polygon, c_circle, c_tsv, c_tsq, c_lsn, c_snap, c_oid,
    c_class, c_type, c_ints, c_text2, c_mood, c_moods, c_pair, c_nest, c_pairs, c_pos, c_mail, c_span,
    c_i4, c_ts_range, c_multi, c_hstore, c_citext)
VALUES (-32768, -1, 9223372036854775807, 'NaN', 1.00000000000000000001, 'infinity', '-infinity',
    '-$1,234.56', true, 'ab', E'tab\there', E'new\nline\\ \u0001 üñí ☃ 🦀', 'name', 'x',
    '\x00ff5c0a0d09', '0044-03-15 BC', '24:00:00', '12:00:00.123456+13:45', '4713-01-01 00:00:00 BC',
    'infinity', '-1 year 2 mons -3 days 04:05:06.789', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    '{"a":  1, "a": 2}', '{"b": [1, null, "\u00fc"]}', '$.a[*] ? (@ > 1)', '<a b="c">&amp;</a>',
    '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'1',
    '(1e-300,2)', '{1,2,3}', '[(0,0),(1,1)]', '((1,1),(0,0))', '[(0,0),(1,2)]', '((0,0),(1,1),(2,0))',
    '<(0,0),1>', 'a:1A fat:2B,4C', 'fat & (rat | !cat)', '16/B374D848', '10:20:10,14,15', 4294967295,
    'pg_class', 'int4', '{1,NULL,-3}', '{{"a","b,c"},{"NULL",NULL}}', 'o''k', '{sad,"glad \"really\""}',
    ROW(1, E'x\ty'), ROW(ROW(NULL, '')::pair, ARRAY[ROW(1, ',')::pair], 'sad'), ARRAY[ROW(NULL, NULL)::pair],
    1, 'A@B', '[1.5,infinity)', '(,5]', '["-infinity",2020-01-01)', '{[1,3),[5,9)}', 'a=>NULL, "b c"=>"d"',
    'CaSe'),
    (0, 0, 0, 'infinity', -0.5, 'NaN', '1e-320', 0, false, '', '', '', '', '', '', 'infinity', '00:00',
    '00:00+00', '-infinity', '0001-01-01 00:00+00 BC', '0', NULL, 'null', 'null', '$', '', '0.0.0.0', '::/0',
    NULL, NULL, B'00000', B'', '(NaN,infinity)', NULL, NULL, NULL, NULL, NULL, NULL, '', '', '0/0', NULL, 0,
    NULL, NULL, '{}', '{}', NULL, '{}', ROW(NULL, NULL), NULL, '{}', NULL, 'n@u', 'empty', 'empty', '(,)', '{}', '', '');
INSERT INTO types (c_real, c_double, c_num, c_mail) SELECT i / 3.0, i / 7.0, i / 9.0, 'i@' || i FROM generate_series(1, 50) i;

CREATE TABLE nothing ();
CREATE TABLE no_columns ();
INSERT INTO no_columns SELECT FROM generate_series(1, 3);
CREATE TABLE was_more (gone int, kept int, also_gone text);
INSERT INTO was_more VALUES (1, 2, 'x');
ALTER TABLE was_more DROP COLUMN gone, DROP COLUMN also_gone, ADD COLUMN new text DEFAULT 'added';
CREATE TABLE only_made (a int GENERATED ALWAYS AS (1) STORED);
INSERT INTO only_made SELECT FROM generate_series(1, 2);
CREATE UNLOGGED TABLE unlogged (id serial, t text);
INSERT INTO unlogged (t) VALUES ('still here');
CREATE TABLE "odd ""schema"""."Tab""le ☃ \ with 'all' % $$" (
    "select" int PRIMARY KEY, "Col""umn, (x)" text, "ünï" text NOT NULL, " " int, "a\b" text);
INSERT INTO "odd ""schema"""."Tab""le ☃ \ with 'all' % $$" VALUES (1, '\.', '\N', 0, E'\\'), (2, NULL, '', NULL, NULL);
CREATE TABLE "select"."table" ("from" text);
INSERT INTO "select"."table" VALUES (E'\r\n'), (E'\b\f\v'), ('\\.'), (repeat('x', 70000));
CREATE TABLE wide (id int PRIMARY KEY, body text);
ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
INSERT INTO wide SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, 160000) i;
CREATE TABLE ranged (id int, pad text) WITH (fillfactor = 50, autovacuum_enabled = off);
INSERT INTO ranged SELECT i, repeat('y', 100) FROM generate_series(1, 5000) i;
DELETE FROM ranged WHERE id % 3 = 0;
UPDATE ranged SET pad = 'z' WHERE id % 7 = 0;

CREATE TABLE parted (id int NOT NULL, at date NOT NULL, v text) PARTITION BY RANGE (at);
CREATE INDEX ON parted (id, at);
CREATE TABLE parted_old PARTITION OF parted FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE parted_new PARTITION OF parted FOR VALUES FROM ('2020-01-01') TO ('2030-01-01') PARTITION BY LIST (v);
CREATE TABLE parted_new_a PARTITION OF parted_new FOR VALUES IN ('a', NULL);
CREATE TABLE parted_new_rest PARTITION OF parted_new DEFAULT;
CREATE TABLE hashed (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parted SELECT i, date '2019-06-01' + i * 10, CASE i % 3 WHEN 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 100) i;
INSERT INTO hashed SELECT generate_series(1, 50);
CREATE TABLE parent (id int, kind text);
CREATE TABLE child (more text) INHERITS (parent);
INSERT INTO parent VALUES (1, 'parent');
INSERT INTO child VALUES (2, 'child', 'x');

CREATE TABLE egg (id int PRIMARY KEY, hen int);
CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL REFERENCES egg DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen ON DELETE SET NULL DEFERRABLE;
BEGIN;
INSERT INTO hen VALUES (1, 1);
INSERT INTO egg VALUES (1, 1), (2, NULL);
COMMIT;
ALTER TABLE egg ADD CONSTRAINT later CHECK (id < 100) NOT VALID;
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree);
INSERT INTO tree SELECT i, NULLIF(i - 1, 0) FROM generate_series(1, 10) i;
CREATE TABLE booked (room int, during int4range, EXCLUDE USING gist (during WITH &&));
INSERT INTO booked VALUES (1, '[1,3)'), (1, '[3,4)');
CREATE UNIQUE INDEX partial ON egg ((id + 1) DESC NULLS LAST) INCLUDE (hen) WHERE hen IS NULL;
CREATE INDEX similar_idx ON wide USING gin (substr(body, 1, 10) ext.gin_trgm_ops);
CREATE STATISTICS stats (dependencies) ON id, kind FROM parent;
ALTER TABLE egg CLUSTER ON egg_pkey;
ALTER TABLE hen REPLICA IDENTITY FULL;

CREATE SEQUENCE plain START 5 MINVALUE -10 MAXVALUE 1000 CYCLE CACHE 3;
CREATE SEQUENCE down INCREMENT -2 MINVALUE -100;
CREATE SEQUENCE "odd ""schema"""."Se""q" AS smallint OWNED BY "odd ""schema"""."Tab""le ☃ \ with 'all' % $$"."select";
ALTER TABLE "odd ""schema"""."Tab""le ☃ \ with 'all' % $$" OWNER TO "ROLE owner";
SELECT nextval('plain'), nextval('down'), setval('"odd ""schema"""."Se""q"', 42, false);

CREATE FUNCTION add(a int, b int DEFAULT 1) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT a + b';
CREATE FUNCTION atomic(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT x + 1; END;
CREATE FUNCTION set_returning() RETURNS TABLE (a int, b text) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $body$
BEGIN RETURN QUERY SELECT 1, $q$it's "quoted"$q$::text; END $body$;
CREATE PROCEDURE proc(INOUT x int) LANGUAGE plpgsql AS $$ BEGIN x := x + 1; END $$;
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = int, FUNCTION = add);
CREATE CAST (text AS pair) WITH INOUT;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.kind := 'stamped'; RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON parent FOR EACH ROW WHEN (NEW.id > 100) EXECUTE FUNCTION stamp();
ALTER TABLE parent ENABLE ALWAYS TRIGGER stamp;
CREATE TRIGGER never BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE child DISABLE TRIGGER never;
CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF tg_tag = 'DROP TABLE' THEN RAISE EXCEPTION 'not here'; END IF; END $$;
CREATE EVENT TRIGGER forbid ON ddl_command_start EXECUTE FUNCTION forbid();
CREATE TABLE ruled (id int);
INSERT INTO ruled VALUES (1);
CREATE RULE swallow AS ON INSERT TO ruled DO INSTEAD NOTHING;
CREATE VIEW seen AS SELECT p.id, add(p.id) AS more FROM parent p WITH CHECK OPTION;
CREATE VIEW updatable WITH (security_barrier) AS SELECT id FROM ruled;
CREATE RECURSIVE VIEW chain (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM chain WHERE n < 5;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM types;
CREATE UNIQUE INDEX ON kept (n);
CREATE MATERIALIZED VIEW kept_of_kept AS SELECT n + 1 AS n FROM kept;
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;

CREATE TABLE secret (who text, what text);
INSERT INTO secret VALUES ('a', 'x'), ('b', 'y');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secret FOR SELECT TO "ROLE reader" USING (who = current_user);
GRANT SELECT (who), UPDATE (what) ON secret TO "ROLE reader";
GRANT SELECT, INSERT ON parent TO PUBLIC;
GRANT EXECUTE ON FUNCTION add(int, int) TO "ROLE reader" WITH GRANT OPTION;
REVOKE EXECUTE ON FUNCTION add(int, int) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE "ROLE owner" IN SCHEMA public GRANT SELECT ON TABLES TO "ROLE reader";
ALTER DEFAULT PRIVILEGES FOR ROLE "ROLE owner" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER TYPE mood OWNER TO "ROLE owner";
ALTER FUNCTION stamp() OWNER TO "ROLE owner";
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert');
CREATE PUBLICATION "some" FOR TABLE parent (id) WHERE (id > 1);
CREATE PUBLICATION whole FOR TABLES IN SCHEMA "select";
CREATE FOREIGN DATA WRAPPER wrapper;
CREATE SERVER server FOREIGN DATA WRAPPER wrapper OPTIONS (host 'nowhere');
CREATE USER MAPPING FOR "ROLE reader" SERVER server OPTIONS (user 'x');
CREATE FOREIGN TABLE abroad (id int OPTIONS (name 'other')) SERVER server;
CREATE TEXT SEARCH CONFIGURATION fts (COPY = simple);
CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = simple, accept = false);

SELECT lo_from_bytea(4711, '\x00ff0a5c'), lo_from_bytea(4712, ''), lo_from_bytea(4713, convert_to(repeat('large ', 200000), 'UTF8'));
ALTER LARGE OBJECT 4711 OWNER TO "ROLE owner";
GRANT SELECT ON LARGE OBJECT 4712 TO "ROLE reader";
COMMENT ON LARGE OBJECT 4713 IS 'large';
CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
ALTER TABLE parent ALTER COLUMN kind SET STATISTICS 500;
ALTER TABLE secret ALTER COLUMN what SET COMPRESSION pglz;
REFRESH MATERIALIZED VIEW kept;

-- What is rarer, and pg_dump takes it all the same.
CREATE TABLE types_too (
    id int GENERATED BY DEFAULT AS IDENTITY (MAXVALUE 9999 CYCLE), c_nums nummultirange, c_dates datemultirange,
    c_stamps tsrange, c_tid tid, c_xid8 xid8, c_proc regprocedure, c_role regnamespace, c_seconds interval second(2),
    c_time time(3), c_bpchar bpchar, c_grid int[][], c_spans span[], c_domains positive[],
    c_twice text GENERATED ALWAYS AS (upper(c_bpchar)) STORED
);
INSERT INTO types_too (c_nums, c_dates, c_stamps, c_tid, c_xid8, c_proc, c_role, c_seconds, c_time, c_bpchar, c_grid,
    c_spans, c_domains)
VALUES ('{(,1.5],[NaN,NaN]}', '{[0044-03-15 BC,infinity)}', '(-infinity,0001-01-01 BC]', '(7,3)', '18446744073709551615',
    'pg_catalog.int4pl(integer,integer)', 'public', '1.239 s', '23:59:59.9996', 'x  ', '[-1:0][5:6]={{1,2},{3,NULL}}',
    '{"[1,2)",empty}', '{1,2}'), (NULL, '{}', 'empty', NULL, '0', '-', NULL, NULL, NULL, '', '{}', NULL, NULL);
CREATE TYPE multi AS RANGE (subtype = text, collation = "C", multirange_type_name = many_texts);
CREATE TABLE ranged_texts (one multi, many many_texts);
INSERT INTO ranged_texts VALUES ('[a,"b,c"]', '{[a,b),["",x]}');
CREATE TYPE own_text;
CREATE FUNCTION own_text_in(cstring) RETURNS own_text LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION own_text_out(own_text) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE own_text (INPUT = own_text_in, OUTPUT = own_text_out, LIKE = text, CATEGORY = 'S');
CREATE TABLE own_texts (t own_text);
INSERT INTO own_texts VALUES ('one'), (E't\two');
CREATE TABLE of_pair OF pair (a WITH OPTIONS PRIMARY KEY, b DEFAULT 'typed');
INSERT INTO of_pair VALUES (1, DEFAULT), (2, NULL);
CREATE TABLE distinctly (a int, UNIQUE NULLS NOT DISTINCT (a)) WITH (toast.autovacuum_enabled = off);
CREATE TABLE grand_child (yet text) INHERITS (child);
INSERT INTO grand_child VALUES (3, 'grand', 'y', 'z');
CREATE VIEW invoked WITH (security_invoker) AS SELECT who FROM secret;
CREATE VIEW written AS SELECT id, kind FROM parent;
CREATE TRIGGER written INSTEAD OF INSERT ON written FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE FUNCTION kinds(VARIADIC what anyarray) RETURNS SETOF anyelement LANGUAGE sql ROWS 5 COST 7 LEAKPROOF AS 'SELECT unnest($1)';
CREATE AGGREGATE middle (ORDER BY int) (SFUNC = array_append, STYPE = int[], INITCOND = '{}');
CREATE OPERATOR FAMILY family USING btree;
CREATE OPERATOR CLASS downwards FOR TYPE int USING btree FAMILY family AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int);
CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE on_other_heap (id int) USING other_heap;
INSERT INTO on_other_heap SELECT generate_series(1, 100);
CREATE TEXT SEARCH TEMPLATE plainly (LEXIZE = dsimple_lexize, INIT = dsimple_init);
CREATE TEXT SEARCH PARSER parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype);
CREATE STATISTICS expressions (mcv, ndistinct) ON (id % 7), kind FROM parent;
CREATE TABLE watched (id int, CONSTRAINT fine CHECK (id > 0) NO INHERIT);
CREATE TRIGGER watched AFTER UPDATE ON watched REFERENCING OLD TABLE AS was NEW TABLE AS is_now
    FOR EACH STATEMENT EXECUTE FUNCTION stamp();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE POLICY limits ON watched AS RESTRICTIVE FOR ALL USING (id < 9) WITH CHECK (id < 8);
CREATE SUBSCRIPTION heard CONNECTION 'dbname=nowhere' PUBLICATION everything
    WITH (connect = false, slot_name = NONE);
COMMENT ON CONSTRAINT fine ON watched IS 'of a constraint';
COMMENT ON OPERATOR <+> (int, int) IS 'of an operator';
COMMENT ON TYPE mood IS 'of a type';
ALTER DEFAULT PRIVILEGES FOR ROLE "ROLE owner" GRANT USAGE ON SCHEMAS TO "ROLE reader";
GRANT USAGE ON TYPE mood TO "ROLE reader";
GRANT USAGE ON FOREIGN SERVER server TO "ROLE reader";
GRANT ALL ON SEQUENCE plain TO "ROLE reader" WITH GRANT OPTION;
GRANT "ROLE reader" TO "ROLE owner";
ALTER VIEW seen OWNER TO "ROLE owner";
ALTER DOMAIN positive OWNER TO "ROLE owner";
ALTER TABLE parted_old OWNER TO "ROLE owner";
