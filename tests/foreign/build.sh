#!/bin/sh
# Builds the foreign client: generates Go stubs from proto/ with protoc into the build directory (nothing generated is
# committed), then compiles there. Usage: build.sh OUT_DIR; leaves OUT_DIR/foreign.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
proto=$(cd "$here/../../proto" && pwd)
out=${1:?usage: build.sh OUT_DIR}
files="common/common.proto cosi/resource.proto cosi/state.proto machine/machine.proto"

for tool in protoc go; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: install the package protobuf-compiler, or Go" >&2; exit 3; }
done

mkdir -p "$out/bin" "$out/gen"
cp "$here"/*.go "$here/go.mod" "$here/go.sum" "$out/"
cd "$out"
# The plug-ins are pinned in go.mod like everything else.
go build -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

# Where each file's Go package lies. The status message is the one that grpc-go itself uses: one process can hold it once.
map="Mgoogle/rpc/status.proto=google.golang.org/genproto/googleapis/rpc/status"
for file in $files; do
    map="$map,M$file=orlop.dev/foreign/gen/$(dirname "$file")"
done
# shellcheck disable=SC2086 # the list of files is meant to be split
PATH="$out/bin:$PATH" protoc -I "$proto" \
    --go_out=. --go_opt="module=orlop.dev/foreign,$map" \
    --go-grpc_out=. --go-grpc_opt="module=orlop.dev/foreign,$map" \
    $files
go build -o foreign .
