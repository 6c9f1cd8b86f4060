# SPDX-License-Identifier: MIT
# A client of the servers that is not farshore: what a store really holds, and what a credential is
# really allowed. Sourced behind tests/e2e/lib.sh by tests that with.sh runs.
# shellcheck shell=bash disable=SC2154
ADMIN=$FARSHORE_CREDENTIALS # a folder of credentials is who asks
CURL=(curl -sS --max-time 30)
[ ! -e "$FARSHORE_TEST_FOLDER/ca.pem" ] || CURL+=(--cacert "$FARSHORE_TEST_FOLDER/ca.pem")

# Where a store's keys begin: a container's URL and a prefix.
store_place() { # cache|target
    local url=${CACHE%%\?*}
    [ "$1" = cache ] || url=${TARGET%%\?*}
    case $url in
    file://*) folder=${url#file://} prefix= ;;
    azure://*)
        local rest=${url#azure://}
        account=${rest%%/*} rest=${rest#*/}
        container=$FARSHORE_TEST_ENDPOINT/$account/${rest%%/*} name=azure.$account
        prefix=${rest#"${rest%%/*}"} prefix=${prefix#/}
        ;;
    s3://*)
        local rest=${url#s3://}
        container=$FARSHORE_TEST_ENDPOINT/${rest%%/*} name=s3.${rest%%/*}
        prefix=${rest#"${rest%%/*}"} prefix=${prefix#/}
        ;;
    esac
    [ -z "$prefix" ] || prefix=$prefix/
}

secret_of() { sed -n "s/^$2=//p" "$1"; } # FILE NAME

hmac() { # HEX-KEY TEXT -> base64
    printf '%s' "$2" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -binary | base64 -w0
}

urlencode() { jq -rn --arg t "$1" '$t | @uri'; }

# A SAS for one container (https://learn.microsoft.com/rest/api/storageservices/create-service-sas).
azure_sas() { # cache|target PERMISSIONS SECONDS
    local key expiry version=2021-12-02 text
    store_place "$1"
    key=$(secret_of "$ADMIN/$name" AZURE_STORAGE_KEY | base64 -d | xxd -p -c 256)
    expiry=$(date -u -d "@$(($(date +%s) + $3))" +%Y-%m-%dT%H:%M:%SZ)
    text=$(printf '%s\n' "$2" '' "$expiry" "/blob/$account/${container##*/}" '' '' '' "$version" c '' '' '' '' '' '' .)
    text=${text%.}
    printf 'sv=%s&sr=c&sp=%s&se=%s&sig=%s\n' "$version" "$2" "$(urlencode "$expiry")" "$(urlencode "$(hmac "$key" "$text")")"
}

# One request; prints its status, its answer's body goes to $TMP/answer.
ask_azure() { # WHO METHOD URL QUERY [CURL-OPTION...]
    local sas
    sas=$(secret_of "$1/$name" AZURE_STORAGE_SAS_TOKEN 2>/dev/null) || true
    [ -n "$sas" ] || sas=$(azure_sas "$store" racwdl 600)
    "${CURL[@]}" -o "$TMP/answer" -w '%{http_code}\n' -X "$2" "${@:5}" -K - <<<"url = \"$3?$4${4:+&}$sas\""
}

ask_s3() { # WHO METHOD URL QUERY [CURL-OPTION...]
    local id key token
    id=$(secret_of "$1/$name" AWS_ACCESS_KEY_ID)
    key=$(secret_of "$1/$name" AWS_SECRET_ACCESS_KEY)
    token=$(secret_of "$1/$name" AWS_SESSION_TOKEN)
    "${CURL[@]}" -o "$TMP/answer" -w '%{http_code}\n' -X "$2" --aws-sigv4 aws:amz:us-east-1:s3 \
        -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "${@:5}" -K - <<END
url = "${3%%//*}//$(urlencode "$id"):$(urlencode "$key")@${3#*//}${4:+?}$4"
${token:+header = "x-amz-security-token: $token"}
END
}

ask() { # WHO METHOD cache|target KEY [CURL-OPTION...]
    local store=$3 folder prefix container account name
    store_place "$3"
    case $CACHE in
    azure:*) ask_azure "$1" "$2" "$container/$prefix$4" '' -H 'x-ms-version: 2021-12-02' "${@:5}" ;;
    *) ask_s3 "$1" "$2" "$container/$prefix$4" '' "${@:5}" ;;
    esac
}

put_raw() { # WHO cache|target KEY TEXT: unconditional
    ask "$1" PUT "$2" "$3" -H 'x-ms-blob-type: BlockBlob' -H 'content-type: text/plain' --data-binary "$4"
}

# The names of VM's objects in a store, as the server lists them (a page of them is enough here).
names_in() { # cache|target VM
    local store=$1 folder prefix container account name status tag=Key
    store_place "$1"
    case $CACHE in
    file:*)
        [ ! -d "$folder/$2" ] || (cd "$folder" && find "$2" -type f)
        return
        ;;
    azure:*)
        tag=Name
        status=$(ask_azure "$ADMIN" GET "$container" "restype=container&comp=list&prefix=$(urlencode "$prefix$2/")" \
            -H 'x-ms-version: 2021-12-02')
        ;;
    *) status=$(ask_s3 "$ADMIN" GET "$container" "list-type=2&prefix=$(urlencode "$prefix$2/")") ;;
    esac
    [ "$status" = 200 ] || { cat "$TMP/answer" >&2; fail "listing $1: $status"; }
    grep -o "<$tag>[^<]*" "$TMP/answer" | sed "s#^<$tag>$prefix##" || true
}

# Whether an object is there: by a read of it, as lists may lag.
holds() { # cache|target KEY
    local folder prefix container account name status
    store_place "$1"
    if [ "$FARSHORE_TEST_SERVER" = file ]; then
        [ -e "$folder/$2" ]
        return
    fi
    status=$(ask "$ADMIN" GET "$1" "$2")
    case $status in
    200) ;;
    404) return 1 ;;
    *) fail "reading $2 in the $1 store: $status" ;;
    esac
}

# --- roles: folders of credentials that allow what a role needs, and no more ---

role_folder() { mkdir -p -m 700 "$TMP/roles/$1" && echo "$TMP/roles/$1"; } # ROLE
give() { (umask 077 && printf '%s\n' "${@:3}" >"$(role_folder "$1")/$2"); } # ROLE STORE LINE...

give_sas() { # ROLE cache|target PERMISSIONS [SECONDS]
    local folder prefix container account name
    store_place "$2"
    give "$1" "$name" "AZURE_STORAGE_SAS_TOKEN=$(azure_sas "$2" "$3" "${4:-3600}")"
}

# That a viewer creates and deletes under VM/pins/ alone takes a SAS for a directory, which needs an
# account with hierarchical namespace; Azurite has none, so its viewer may do so everywhere.
make_roles_azurite() {
    give_sas source cache rcl
    give_sas processor cache racwdl
    give_sas processor target racwdl
    give_sas viewer target rcdl
}

rgw_admin() { radosgw-admin -c "$FARSHORE_TEST_FOLDER/ceph.conf" -n client.rgw "$@"; }

give_user() { # ROLE BUCKET...
    local secret role=$1 bucket
    secret=$(openssl rand -hex 20)
    rgw_admin user create --uid="$role" --display-name="$role" --access-key="AK${role^^}" \
        --secret-key="$secret" >"$TMP/user.log" 2>&1 || fail "$(cat "$TMP/user.log")"
    shift
    for bucket in "$@"; do
        give "$role" "s3.$bucket" "AWS_ACCESS_KEY_ID=AK${role^^}" "AWS_SECRET_ACCESS_KEY=$secret"
    done
}

# A session of an hour, whose rights are those of a role that the administrator assumes
# (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
give_session() { # ROLE BUCKET...
    local role=$1 bucket resources=() id key folder prefix container account name
    shift
    for bucket in "$@"; do resources+=("\"arn:aws:s3:::$bucket\"" "\"arn:aws:s3:::$bucket/*\""); done
    rgw_admin role create --role-name="$role" --assume-role-policy-doc='{"Version":"2012-10-17",
        "Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/farshore"]},
        "Action":["sts:AssumeRole"]}]}' >"$TMP/role.log" 2>&1 || fail "$(cat "$TMP/role.log")"
    rgw_admin role-policy put --role-name="$role" --policy-name=all --policy-doc="{
        \"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"s3:*\"],
        \"Resource\":[$(IFS=,; echo "${resources[*]}")]}]}" >"$TMP/role.log" 2>&1 || fail "$(cat "$TMP/role.log")"
    store_place cache
    id=$(secret_of "$ADMIN/$name" AWS_ACCESS_KEY_ID)
    key=$(secret_of "$ADMIN/$name" AWS_SECRET_ACCESS_KEY)
    "${CURL[@]}" -o "$TMP/answer" --aws-sigv4 aws:amz:us-east-1:sts -d Action=AssumeRole \
        -d Version=2011-06-15 -d DurationSeconds=3600 -d RoleSessionName=farshore \
        -d "RoleArn=$(urlencode "arn:aws:iam:::role/$role")" -K - <<END
url = "$FARSHORE_TEST_ENDPOINT/"
user = "$id:$key"
END
    session_part() { sed -n "s#.*<$1>\([^<]*\)</$1>.*#\1#p" "$TMP/answer"; }
    [ -n "$(session_part SessionToken)" ] || fail "no session: $(cat "$TMP/answer")"
    for bucket in "$@"; do
        give "$role" "s3.$bucket" "AWS_ACCESS_KEY_ID=$(session_part AccessKeyId)" \
            "AWS_SECRET_ACCESS_KEY=$(session_part SecretAccessKey)" \
            "AWS_SESSION_TOKEN=$(session_part SessionToken)"
    done
}

statement() { # ROLE ACTIONS RESOURCES: of a bucket policy; lists are JSON
    printf '{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/%s"]},"Action":%s,"Resource":%s}' "$@"
}

set_policy() { # cache|target STATEMENT...
    local folder prefix container account name status
    store_place "$1"
    status=$(ask_s3 "$ADMIN" PUT "$container" 'policy=' -H 'content-type: application/json' --data-binary \
        "{\"Version\":\"2012-10-17\",\"Statement\":[$(IFS=,; echo "${*:2}")]}")
    [ "$status" = 200 ] || [ "$status" = 204 ] || fail "policy of $name: $status $(cat "$TMP/answer")"
}

make_roles_radosgw() {
    local cache=arn:aws:s3:::far-cache target=arn:aws:s3:::far-target
    give_user source far-cache far-target # the second only to see it refused
    give_session processor far-cache far-target
    give_user viewer far-target
    set_policy cache \
        "$(statement source '["s3:PutObject","s3:GetObject"]' "[\"$cache/some/prefix/*\"]")" \
        "$(statement source '["s3:ListBucket"]' "[\"$cache\"]")"
    set_policy target \
        "$(statement viewer '["s3:GetObject"]' "[\"$target/*\"]")" \
        "$(statement viewer '["s3:PutObject","s3:DeleteObject"]' "[\"$target/*/pins/*\"]")" \
        "$(statement viewer '["s3:ListBucket"]' "[\"$target\"]")"
}

make_roles() { "make_roles_${FARSHORE_TEST_SERVER%%-*}"; }
