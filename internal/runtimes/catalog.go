package runtimes

import (
	"fmt"
	"slices"
	"strings"
)

// Family groups runtimes that run in the same way.
type Family string

// The families of AWS's runtime names.
const (
	Provided Family = "provided" // the archive's own bootstrap
	Node     Family = "nodejs"
	Python   Family = "python"
	Java     Family = "java"
	DotNet   Family = "dotnet"
	Ruby     Family = "ruby"
	Go       Family = "go"
)

// Info is what is known about one runtime name.
type Info struct {
	Name    string // as in CreateFunction, for example "python3.13"
	Family  Family
	Version string // the language version of the name: "22", "3.13", "al2023"
	Retired bool   // AWS no longer accepts it for CreateFunction
}

// Served says whether functions of this runtime can run here at all. A retired name of a served family is served: a
// function that was made with it still runs.
func (i Info) Served() bool {
	return i.Family == Provided || i.Family == Node || i.Family == Python
}

// catalog lists AWS's runtime names: those that it accepts for CreateFunction first, the retired ones after.
var catalog = func() []Info {
	var all []Info
	add := func(f Family, retired bool, names string) {
		for name := range strings.FieldsSeq(names) {
			all = append(all, Info{Name: name, Family: f, Version: version(f, name), Retired: retired})
		}
	}
	add(Node, false, "nodejs16.x nodejs18.x nodejs20.x nodejs22.x nodejs24.x")
	add(Python, false, "python3.8 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14")
	add(Java, false, "java8.al2 java11 java17 java21 java25")
	add(DotNet, false, "dotnet6 dotnet8 dotnet10")
	add(Ruby, false, "ruby3.2 ruby3.3 ruby3.4 ruby4.0")
	add(Provided, false, "provided.al2 provided.al2023")
	add(Provided, true, "provided")
	add(Go, true, "go1.x")
	add(Node, true, "nodejs nodejs4.3 nodejs4.3-edge nodejs6.10 nodejs8.10 nodejs10.x nodejs12.x nodejs14.x")
	add(Python, true, "python2.7 python3.6 python3.7")
	add(Java, true, "java8")
	add(DotNet, true, "dotnetcore1.0 dotnetcore2.0 dotnetcore2.1 dotnetcore3.1 dotnet5.0")
	add(Ruby, true, "ruby2.5 ruby2.7")
	return all
}()

func version(f Family, name string) string {
	v := strings.TrimPrefix(strings.TrimPrefix(name, string(f)), ".")
	v, _, _ = strings.Cut(v, "-")
	if f == Node {
		v, _, _ = strings.Cut(v, ".")
	}
	return v
}

// Lookup finds a runtime by its exact, case-sensitive name.
func Lookup(name string) (Info, bool) {
	i := slices.IndexFunc(catalog, func(r Info) bool { return r.Name == name })
	if i < 0 {
		return Info{}, false
	}
	return catalog[i], true
}

// Creatable lists the names that CreateFunction accepts, in the order of AWS's documentation. Those of a family that is
// not served are among them: Supported tells why they cannot be used here.
func Creatable() []string {
	var names []string
	for _, r := range catalog {
		if !r.Retired {
			names = append(names, r.Name)
		}
	}
	return names
}

// Supported says whether a function may be created with the runtime: nil, an *UnknownError for a name that AWS does not
// have, a *RetiredError for one that it no longer accepts, an *UnsupportedError for a language that is not served here.
func Supported(name string) error {
	r, ok := Lookup(name)
	switch {
	case !ok:
		return &UnknownError{Runtime: name}
	case r.Retired:
		return &RetiredError{Runtime: name, Instead: latest(r.Family)}
	case !r.Served():
		return &UnsupportedError{Runtime: name, Family: r.Family}
	}
	return nil
}

// latest is the newest creatable name of a family, which AWS names in its message about a retired one.
func latest(f Family) string {
	if f == Go {
		f = Provided
	}
	var name string
	for _, r := range catalog {
		if r.Family == f && !r.Retired {
			name = r.Name
		}
	}
	return name
}

// UnknownError is returned for a name that is not one of AWS's runtimes.
type UnknownError struct{ Runtime string }

// Error words the failure as AWS does (InvalidParameterValueException).
func (e *UnknownError) Error() string {
	return fmt.Sprintf("Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN",
		e.Runtime, strings.Join(Creatable(), ", "))
}

// RetiredError is returned for a runtime with which functions may no longer be created.
type RetiredError struct{ Runtime, Instead string }

// Error words the failure as AWS does (InvalidParameterValueException).
func (e *RetiredError) Error() string {
	return fmt.Sprintf("The runtime parameter of %s is no longer supported for creating or updating AWS Lambda functions. "+
		"We recommend you use a supported runtime (%s) while creating or updating functions.", e.Runtime, e.Instead)
}

// UnsupportedError is returned for a runtime of AWS whose language is not served here.
type UnsupportedError struct {
	Runtime string
	Family  Family
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("The runtime %s (%s) is not served here: use a custom runtime (provided.al2023) or a container image, "+
		"or one of nodejs and python.", e.Runtime, e.Family)
}
