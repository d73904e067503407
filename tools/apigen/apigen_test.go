package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFormat holds that reading a model and writing it again changes nothing: what import writes is all that we keep.
func TestFormat(t *testing.T) {
	files, _ := filepath.Glob("../../apimodels/*.json")
	for _, f := range files {
		if filepath.Base(f) == "corrections.json" {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var m Model
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.format(), text) {
			t.Errorf("%s is not as import writes it", f)
		}
	}
}

// TestGenerate makes a contract of a small model that has what is rare: recursion, an event stream with an exception, a shape that two operations
// share, one that has an operation's name, values whose identifiers collide.
func TestGenerate(t *testing.T) {
	var m Model
	err := json.Unmarshal([]byte(`{
		"metadata": {"apiVersion": "2026-01-01", "serviceId": "T", "serviceFullName": "Test", "endpointPrefix": "t", "protocols": ["rest-json"]},
		"operations": {
			"Watch": {"http": {"method": "GET", "requestUri": "/w"}, "output": {"shape": "WatchResponse"}},
			"GetTree": {"http": {"method": "GET", "requestUri": "/t/{id}"}, "input": {"shape": "TreeRequest"}, "output": {"shape": "Tree"}},
			"PutTree": {"http": {"method": "PUT", "requestUri": "/t"}, "input": {"shape": "Tree"}, "output": {"shape": "Tree"}}
		},
		"shapes": {
			"TreeRequest": {"type": "structure", "required": ["id"], "members": {"id": {"shape": "Id", "location": "uri", "locationName": "id"}}},
			"Tree": {"type": "structure", "members": {"kids": {"shape": "Trees"}, "kind": {"shape": "Kind"}, "watch": {"shape": "Watch"}}},
			"Trees": {"type": "list", "member": {"shape": "Tree"}},
			"Watch": {"type": "structure", "members": {}},
			"Kind": {"type": "string", "enum": ["A_B", "a-b"]},
			"Id": {"type": "string", "min": 1, "pattern": "[a-z]+"},
			"WatchResponse": {"type": "structure", "members": {"events": {"shape": "Events"}}, "payload": "events"},
			"Events": {"type": "structure", "eventstream": true, "members": {"Gone": {"shape": "Gone"}, "tree": {"shape": "Tree"}}},
			"Gone": {"type": "structure", "members": {"message": {"shape": "Id"}}, "exception": true, "error": {"httpStatusCode": 410}}
		}}`), &m)
	if err != nil {
		t.Fatal(err)
	}
	files, err := generate("test", "testapi", &m)
	if err != nil {
		t.Fatal(err)
	}
	for file, wants := range map[string][]string{
		"types.go": {
			"type Tree struct {\n\tKids  []Tree\n", "Watch *WatchShape\n", "GetTreeOutput = Tree", "PutTreeInput  = Tree",
			"type GetTreeInput struct {\n\tId *string // required\n}", "Events smithy.Stream[Events]", "type Events struct {\n\tTree *Tree\n}", "type WatchInput struct {\n}",
		},
		"enums.go":   {`KindAB      = "A_B"`, `KindABShape = "a-b"`},
		"errors.go":  {"// ErrGone is Gone, HTTP 410."},
		"service.go": {"GetTree = smithy.Op[GetTreeInput, Tree]{Info: &ops[0]}      // GET /t/{id}"},
		"shapes.go":  {"Range: &smithy.Range{Min: 1, Max: smithy.NoMax}, Pattern: `[a-z]+`", "Error: &smithy.ErrorTrait{Status: 410}"},
	} {
		for _, w := range wants {
			if !strings.Contains(string(files[file]), w) {
				t.Errorf("%s lacks %q:\n%s", file, w, files[file])
			}
		}
	}
}
