// The two commands of Helm that the checks of the chart need, over Helm's own engine and linter:
//
//	helm template NAME CHART [--values FILE] [--namespace NS] [--kube-version V] [--api-versions GROUP/V]
//	helm lint CHART --strict [--values FILE] [--kube-version V]
//
// They take the options of the command line of Helm, so that either can be called.
package main

import (
	"flag"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

type options struct {
	values, apis []string
	namespace    string
	kube         string
	strict       bool
}

func main() {
	if len(os.Args) < 2 {
		stop("helm template NAME CHART, or helm lint CHART")
	}
	found, rest := read(os.Args[2:])
	switch {
	case os.Args[1] == "template" && len(rest) == 2:
		template(rest[0], rest[1], found)
	case os.Args[1] == "lint" && len(rest) == 1:
		linted(rest[0], found)
	default:
		stop("helm template NAME CHART, or helm lint CHART")
	}
}

// read takes options and arguments in any order, as Helm does.
func read(words []string) (options, []string) {
	var found options
	set := flag.NewFlagSet("helm", flag.ExitOnError)
	each := func(into *[]string) func(string) error {
		return func(word string) error { *into = append(*into, strings.Split(word, ",")...); return nil }
	}
	set.Func("values", "file of values", each(&found.values))
	set.Func("api-versions", "what else the cluster knows", each(&found.apis))
	set.StringVar(&found.namespace, "namespace", "default", "namespace")
	set.StringVar(&found.kube, "kube-version", "", "version of Kubernetes")
	set.BoolVar(&found.strict, "strict", false, "a warning fails too")
	var rest []string
	for len(words) > 0 {
		must(set.Parse(words))
		words = set.Args()
		if len(words) > 0 {
			rest, words = append(rest, words[0]), words[1:]
		}
	}
	return found, rest
}

func (o options) merged() map[string]any {
	all := map[string]any{}
	for _, name := range o.values {
		file, err := os.Open(name)
		must(err)
		read, err := loader.LoadValues(file)
		must(err)
		must(file.Close())
		all = loader.MergeMaps(all, read)
	}
	return all
}

func (o options) version() *common.KubeVersion {
	if o.kube == "" {
		return nil
	}
	version, err := common.ParseKubeVersion(o.kube)
	must(err)
	return version
}

func template(name, folder string, o options) {
	chart, err := loader.Load(folder)
	must(err)
	known := common.DefaultCapabilities.Copy()
	if version := o.version(); version != nil {
		known.KubeVersion = *version
	}
	known.APIVersions = append(known.APIVersions, o.apis...)
	release := common.ReleaseOptions{Name: name, Namespace: o.namespace, Revision: 1, IsInstall: true}
	values, err := util.ToRenderValues(chart, o.merged(), release, known)
	must(err)
	made, err := engine.Render(chart, values)
	must(err)
	files := make([]string, 0, len(made))
	for file := range made {
		if path.Ext(file) == ".yaml" && strings.TrimSpace(made[file]) != "" {
			files = append(files, file)
		}
	}
	sort.Strings(files)
	for _, file := range files {
		fmt.Printf("---\n# Source: %s\n%s\n", file, strings.TrimSpace(made[file]))
	}
}

func linted(folder string, o options) {
	result := lint.RunAll(folder, o.merged(), o.namespace, lint.WithKubeVersion(o.version()))
	failed := false
	for _, message := range result.Messages {
		fmt.Println(message)
		failed = failed || message.Severity >= support.ErrorSev || o.strict && message.Severity >= support.WarningSev
	}
	if failed {
		os.Exit(1)
	}
}

func must(err error) {
	if err != nil {
		stop(err.Error())
	}
}

func stop(text string) {
	fmt.Fprintln(os.Stderr, "Error:", text)
	os.Exit(1)
}
