"""Functions that are built into MySQL and MariaDB. What is not here may do anything.

Taken from reading the chapters "Functions and Operators" (MySQL 5.7 to 9) and "Built-in Functions" (MariaDB 10 to 11).
Left out on purpose: those that run a text as a statement or wait for a replica.
"""

PURE = frozenset(
    """
abs acos adddate addtime aes_decrypt aes_encrypt any_value area asbinary ascii asin astext aswkb aswkt atan atan2 avg
benchmark bin bin_to_uuid binlog_gtid_pos bit_and bit_count bit_length bit_or bit_xor buffer can_access_column
can_access_database can_access_table can_access_user can_access_view cast cast_text ceil ceiling centroid char
char_length character_length charset chr coalesce coercibility collation column_add column_check column_create
column_delete column_exists column_get column_json column_list compress concat concat_ws connection_id contains conv
convert convert_tz convexhull cos cot count crc32 crc32c crosses cume_dist curdate current_date current_role
current_time current_timestamp current_user curtime database date date_add date_format date_sub datediff day dayname
dayofmonth dayofweek dayofyear decode decode_histogram default degrees dense_rank des_decrypt des_encrypt difference
dimension disjoint distance elt encode encrypt endpoint envelope equals exp export_set exteriorring extract
extractvalue field find_in_set first_value floor format format_bytes format_pico_time found_rows from_base64 from_days
from_unixtime geomcollection geomcollfromtext geomcollfromwkb geometrycollection geometryfromtext geometryn
geometrytype geomfromtext geomfromwkb get_format glength greatest group_concat grouping gtid_subset gtid_subtract hex
hour icu_version if ifnull inet4_aton inet4_ntoa inet6_aton inet6_ntoa inet_aton inet_ntoa insert instr interiorringn
intersects interval is_free_lock is_ipv4 is_ipv4_compat is_ipv4_mapped is_ipv6 is_used_lock is_uuid isclosed isempty
isnull isring issimple json_array json_array_append json_array_insert json_array_intersect json_arrayagg json_compact
json_contains json_contains_path json_depth json_detailed json_equals json_exists json_extract json_insert json_keys
json_length json_loose json_merge json_merge_patch json_merge_preserve json_normalize json_object
json_object_filter_keys json_object_to_array json_objectagg json_overlaps json_pretty json_query json_quote
json_remove json_replace json_schema_valid json_schema_validation_report json_search json_set json_storage_free
json_storage_size json_table json_type json_unquote json_valid json_value kdf lag last_day last_insert_id last_value
lastval lcase lead least left length lengthb linefromtext linefromwkb linestring linestringfromtext linestringfromwkb
ln localtime localtimestamp locate log log10 log2 lower lpad ltrim ltrim_oracle make_set makedate maketime match max
mbrcontains mbrcoveredby mbrcovers mbrdisjoint mbrequal mbrequals mbrintersects mbroverlaps mbrtouches mbrwithin md5
median microsecond mid min minute mlinefromtext mlinefromwkb mod month monthname mpointfromtext mpointfromwkb
mpolyfromtext mpolyfromwkb multilinestring multilinestringfromtext multilinestringfromwkb multipoint
multipointfromtext multipointfromwkb multipolygon multipolygonfromtext multipolygonfromwkb name_const natural_sort_key
now nth_value ntile nullif numgeometries numinteriorrings numpoints nvl nvl2 oct octet_length old_password ord overlaps
password percent_rank percentile_cont percentile_disc period_add period_diff pi point pointfromtext pointfromwkb
pointn pointonsurface polyfromtext polyfromwkb polygon polygonfromtext polygonfromwkb position pow power
ps_current_thread_id ps_thread_id quarter quote radians rand random_bytes rank regexp_instr regexp_like regexp_replace
regexp_substr repeat replace reverse right roles_graphml round row row_count row_number rpad rtrim schema sec_to_time
second session_user sformat sha sha1 sha2 sign sin sleep soundex space sqrt srid st_area st_asbinary st_asgeojson
st_astext st_aswkb st_aswkt st_boundary st_buffer st_buffer_strategy st_centroid st_collect st_contains st_convexhull
st_crosses st_difference st_dimension st_disjoint st_distance st_distance_sphere st_endpoint st_envelope st_equals
st_exteriorring st_frechetdistance st_geohash st_geomcollfromtext st_geomcollfromtxt st_geomcollfromwkb
st_geometrycollectionfromtext st_geometrycollectionfromwkb st_geometryfromtext st_geometryfromwkb st_geometryn
st_geometrytype st_geomfromgeojson st_geomfromtext st_geomfromwkb st_hausdorffdistance st_interiorringn
st_intersection st_intersects st_isclosed st_isempty st_isring st_issimple st_isvalid st_latfromgeohash st_latitude
st_length st_linefromtext st_linefromwkb st_lineinterpolatepoint st_lineinterpolatepoints st_linestringfromtext
st_linestringfromwkb st_longfromgeohash st_longitude st_makeenvelope st_mlinefromtext st_mlinefromwkb
st_mpointfromtext st_mpointfromwkb st_mpolyfromtext st_mpolyfromwkb st_numgeometries st_numinteriorring
st_numinteriorrings st_numpoints st_overlaps st_pointatdistance st_pointfromgeohash st_pointfromtext st_pointfromwkb
st_pointn st_pointonsurface st_polyfromtext st_polyfromwkb st_polygonfromtext st_polygonfromwkb st_relate st_simplify
st_srid st_startpoint st_swapxy st_symdifference st_symmetricdifference st_touches st_transform st_union st_validate
st_within st_x st_y startpoint statement_digest statement_digest_text std stddev stddev_pop stddev_samp str_to_date
strcmp subdate substr substring substring_index subtime sum sys_guid sysdate system_user tan time time_format
time_to_sec timediff timestamp timestampadd timestampdiff to_base64 to_char to_days to_number to_seconds touches trim
trim_oracle truncate ucase uncompress uncompressed_length unhex unix_timestamp updatexml upper user utc_date utc_time
utc_timestamp uuid uuid_short uuid_to_bin uuid_v4 uuid_v7 validate_password_strength value values var_pop var_samp
variance vec_distance vec_distance_cosine vec_distance_euclidean vec_fromtext vec_totext version wait_for_lock week
weekday weekofyear weight_string within wsrep_last_seen_gtid wsrep_last_written_gtid x y year yearweek
""".split()
)

EFFECTS = {
    "get_lock": "lock",
    "release_lock": "lock",
    "release_all_locks": "lock",
    "load_file": "file",
    "nextval": "write",
    "setval": "write",
}
"""Those that do more than compute."""

KEEPS = frozenset("get_lock is_free_lock is_used_lock last_insert_id name_const release_lock setval".split())
"""Those whose argument can be seen or asked for afterwards."""

KEYWORDS = frozenset(
    """
adddate bit_and bit_or bit_xor cast count curdate curtime date_add date_sub extract group_concat json_arrayagg
json_objectagg max mid min now position session_user st_collect std stddev stddev_pop stddev_samp subdate substr
substring sum sysdate system_user trim var_pop var_samp variance
""".split()
)
"""Known to the grammar only right before their parenthesis; with a space between they are stored functions, unless
sql_mode has IGNORE_SPACE. Source: MySQL 8.4 manual, "Function Name Parsing and Resolution"."""

TOTAL = frozenset(
    """
aes_encrypt any_value ascii bit_length cast_text char_length character_length coalesce concat concat_ws count crc32
cume_dist dense_rank find_in_set first_value hex ifnull instr isnull json_array json_object json_quote json_valid
lag last_value lcase lead length locate lower ltrim max md5 min nth_value nvl octet_length ord percent_rank position
quote rank replace reverse row row_number rtrim sha sha1 soundex strcmp to_base64 trim ucase upper
""".split()
)
"""Those that give a result, and no warning, for every value: neither tells of their arguments.

Not FIELD: it stops where it finds its first argument, and what stands behind may tarry."""

TOTAL_BUT = frozenset("lag lead left lpad mid nth_value right rpad sha2 substr substring substring_index".split())
"""Those that do on their first argument, but not on the others."""

GROWS = frozenset("concat concat_ws hex json_array json_object json_quote quote replace to_base64".split())
"""Those of TOTAL whose result is longer than their arguments: beyond max_allowed_packet it is NULL, with a warning."""

CHOOSES = frozenset(("if", "nvl2"))
"""Those whose first argument chooses among the others."""
